//! Every name, kind and attribute that has ever broken a sync tool, as trees to push.
//!
//! [`awkward_tree`] holds what a push keeps with ordinary settings; what needs a setting of its
//! own (`trusted.*` attributes, file capabilities) is in [`privileged_attributes`], and links
//! between several names of a symlink or a FIFO, which rsync keeps and a manifest doesn't have,
//! are in [`linked_special_files`].

use super::acl::Acl;
use super::is_root;
use super::tree::Tree;

/// Levels of the deepest directory.
pub(crate) const DEEP_LEVELS: usize = 210;

/// All of it; devices and foreign owners only for root.
pub(crate) fn awkward_tree() -> Tree {
    let tree = awkward_names()
        .and(awkward_kinds())
        .and(awkward_times())
        .and(awkward_attributes())
        .and(look_alikes());
    if is_root() {
        tree.and(root_only())
    } else {
        tree
    }
}

/// Names that break quoting, terminals, decoders, sorting and limits.
pub(crate) fn awkward_names() -> Tree {
    let long_utf8 = "ü".repeat(127) + "x";
    let names: Vec<Vec<u8>> = vec![
        b"new\nline".to_vec(),
        b"\nleading newline".to_vec(),
        b"trailing newline\n".to_vec(),
        b"carriage\rreturn".to_vec(),
        b"tab\there".to_vec(),
        b"escape \x1b[31mred\x1b[0m".to_vec(),
        b"bell\x07 backspace\x08 delete\x7f".to_vec(),
        (1..=31).collect(),
        b"invalid \xff\xfe utf-8".to_vec(),
        b"\x80".to_vec(),
        b"overlong \xc0\xaf".to_vec(),
        b"surrogate \xed\xa0\x80".to_vec(),
        b"latin-1 \xe9t\xe9".to_vec(),
        vec![b'a'; 255],
        vec![0xff; 255],
        long_utf8.into_bytes(),
        b"-rf".to_vec(),
        b"--delete".to_vec(),
        b"-".to_vec(),
        b" leading space".to_vec(),
        b"trailing space ".to_vec(),
        b" ".to_vec(),
        b"'single'".to_vec(),
        b"\"double\"".to_vec(),
        b"`backtick`".to_vec(),
        b"$(command) $HOME ${x} %s %n".to_vec(),
        b"back\\slash".to_vec(),
        b"\\x0A".to_vec(),
        b"\\".to_vec(),
        b"*".to_vec(),
        b"?".to_vec(),
        b"[a-z]".to_vec(),
        b"{a,b}".to_vec(),
        b"**".to_vec(),
        b"!negated".to_vec(),
        b"# comment".to_vec(),
        b"~".to_vec(),
        b"~root".to_vec(),
        b"a:b".to_vec(),
        b"host::module".to_vec(),
        b"semi;colon & ampersand | pipe < > ".to_vec(),
        b"...".to_vec(),
        b"..hidden".to_vec(),
        b".git".to_vec(),
        b".x.fanout".to_vec(),
        b"CON".to_vec(),
        b"nul.txt".to_vec(),
        b"README".to_vec(),
        b"readme".to_vec(),
        b"ReadMe".to_vec(),
        "straße".into(),
        "STRASSE".into(),
        "e\u{301}te\u{301} (NFD)".into(),
        "\u{e9}t\u{e9} (NFC)".into(),
        // One name in both normal forms.
        "caf\u{e9}".into(),
        "cafe\u{301}".into(),
        "right\u{202e}to left".into(),
        "zero\u{200b}width\u{feff}".into(),
        "日本語 🦀".into(),
    ];
    let mut tree = Tree::new();
    for name in &names {
        let file = [b"names/file/", name.as_slice()].concat();
        let below = [b"names/dir/", name.as_slice(), b"/", name.as_slice()].concat();
        let link = [b"names/link/", name.as_slice()].concat();
        let beside = [b"../file/", name.as_slice()].concat();
        tree = tree.file(file, name).file(below, "x").symlink(link, beside);
    }
    // Sorts differently by whole path and by component.
    tree = tree
        .file("names/sort/a-b", "1")
        .file("names/sort/a/b", "2")
        .file("names/sort/a.b", "3");
    let deep = "d/".repeat(DEEP_LEVELS);
    tree = tree
        .file(format!("deep/{deep}bottom"), "bottom")
        .dir(format!("deep/{deep}empty"));
    let long = format!("{}/", "l".repeat(255)).repeat(13);
    tree.file(format!("long/{long}bottom"), "bottom")
}

/// Every kind of entry, in every relation to the others.
pub(crate) fn awkward_kinds() -> Tree {
    Tree::new()
        .dir("kinds/empty dir")
        .file("kinds/empty file", "")
        .file("kinds/one byte", "x")
        .file("kinds/zeros", [0; 100_000])
        .file("kinds/no newline at the end", "a\nb")
        .file("kinds/64 KiB exactly", pattern(1, 65_536))
        .file("kinds/one more", pattern(2, 65_537))
        .file("kinds/incompressible", pattern(3, 300_000))
        .file("kinds/same content 1", pattern(4, 20_000))
        .file("kinds/same content 2", pattern(4, 20_000))
        .sparse("kinds/hole only", 5_000_000, &[])
        .sparse(
            "kinds/sparse",
            9_000_000,
            &[(0, b"start"), (4_000_001, b"middle")],
        )
        .symlink("kinds/to file", "empty file")
        .symlink("kinds/to dir", "empty dir")
        .symlink("kinds/dangling", "nowhere/at all")
        .symlink("kinds/absolute", "/etc/hostname")
        .symlink("kinds/absolute dir", "/")
        .symlink("kinds/up", "../../../../..")
        .symlink("kinds/loop", "loop")
        .symlink("kinds/dot", ".")
        .symlink("kinds/awkward target", b"a\nb\xff'\"\\ *".as_slice())
        .symlink("kinds/long target", [b'x'; 4_000])
        .file("kinds/linked/first", "one inode, three names")
        .hard_link("kinds/linked/second", "kinds/linked/first")
        .hard_link("elsewhere/third", "kinds/linked/first")
        .file("kinds/linked/empty", "")
        .hard_link("a sorts first", "kinds/linked/empty")
        .file("kinds/linked/with mode", pattern(5, 70_000))
        .mode(0o600)
        .hard_link("kinds/linked/with mode too", "kinds/linked/with mode")
        .fifo("kinds/fifo")
        .mode(0o620)
        .socket("kinds/socket")
        .mode(0o666)
}

/// Times before 1970, far ahead, in the same second, with and without a fraction.
pub(crate) fn awkward_times() -> Tree {
    const YEAR_SECONDS: i64 = 31_556_952;
    Tree::new()
        .file("times/epoch", "x")
        .mtime(0, 0)
        .file("times/one nanosecond", "x")
        .mtime(0, 1)
        .file("times/last nanosecond", "x")
        .mtime(1_700_000_000, 999_999_999)
        .file("times/just before 1970", "x")
        .mtime(-1, 999_999_999)
        .file("times/1920", "x")
        .mtime(-50 * YEAR_SECONDS, 5)
        .file("times/after 2038", "x")
        .mtime(1 << 31, 7)
        .file("times/after 2106", "x")
        .mtime((1 << 32) + 1, 0)
        .file("times/2400", "x")
        .mtime(430 * YEAR_SECONDS, 123_456_789)
        .dir("times/old directory")
        .mtime(-30 * YEAR_SECONDS, 9)
        .symlink("times/old symlink", "epoch")
        .mtime(-20 * YEAR_SECONDS, 8)
        .fifo("times/old fifo")
        .mtime(12_345, 678)
        .file("times/same size and second 1", "AAAA")
        .mtime(1_600_000_000, 0)
        .file("times/same size and second 2", "BBBB")
        .mtime(1_600_000_000, 0)
}

/// Modes, extended attributes and ACLs.
pub(crate) fn awkward_attributes() -> Tree {
    let acl = Acl::of_mode(0o750)
        .user(4_000, 6)
        .user(0, 4)
        .group(4_001, 5);
    let narrow = Acl::of_mode(0o770).group(4_002, 7).mask(4);
    let inherited = Acl::of_mode(0o750).user(4_003, 7);
    Tree::new()
        .file("modes/400", "x")
        .mode(0o400)
        .file("modes/777", "x")
        .mode(0o777)
        .file("modes/setuid", "x")
        .mode(0o4755)
        .file("modes/setgid", "x")
        .mode(0o2755)
        .file("modes/sticky file", "x")
        .mode(0o1644)
        .dir("modes/sticky")
        .mode(0o1777)
        .file("modes/setgid dir/file", "x")
        .dir("modes/setgid dir")
        .mode(0o2770)
        .file("attributes/text", "x")
        .xattr("user.comment", "hello")
        .file("attributes/several", "x")
        .xattr("user.a", "")
        .xattr("user.b", [0, 255, 10])
        .xattr(b"user.\xff\n", "awkward name")
        .xattr("user.large", pattern(6, 2_000))
        .dir("attributes/dir")
        .xattr("user.comment", "on a directory")
        .file("attributes/linked", "x")
        .xattr("user.comment", "on an inode with two names")
        .hard_link("attributes/linked too", "attributes/linked")
        .file("acls/file", "x")
        .acl(&acl)
        .file("acls/masked", "x")
        .acl(&narrow)
        .dir("acls/dir")
        .acl(&acl)
        .dir("acls/dir with default/inside")
        .file("acls/dir with default/file that didn't inherit", "x")
        .mode(0o600)
        .dir("acls/dir with default")
        .default_acl(&inherited)
        .dir("acls/both")
        .acl(&narrow)
        .default_acl(&acl)
}

/// Code that has the names of data: nothing may be excluded because of how it is called.
pub(crate) fn look_alikes() -> Tree {
    let mut tree = Tree::new();
    for below in [
        "core",
        "modules/contrib/x",
        "sites",
        "sites/all/modules/y",
        "files",
        "private",
    ] {
        for name in [
            "sites",
            "files",
            "private",
            "tmp",
            "cache",
            "lost+found",
            "CVS",
            "core",
        ] {
            let path = format!("code/{below}/{name}");
            tree = tree
                .file(format!("{path}/inside.php"), &path)
                .dir(format!("{path}/empty"));
        }
        tree = tree.file(format!("code/{below}/.fanout-not-ours"), "x");
        tree = tree
            .file(format!("code/{below}/backup~"), "x")
            .file(format!("code/{below}/a.swp"), "x");
    }
    tree
}

/// Devices and owners that only root can make, and modes that nobody else can copy or clean up.
/// The ids have no names on any usual machine.
pub(crate) fn root_only() -> Tree {
    Tree::new()
        .file("root/000", "x")
        .mode(0)
        .file("root/read-only dir/file", "x")
        .dir("root/read-only dir")
        .mode(0o555)
        .dir("root/closed dir/inside")
        .dir("root/closed dir")
        .mode(0)
        .char_device("root/null", 1, 3)
        .mode(0o666)
        .char_device("root/large numbers", 511, 1_000_000)
        .block_device("root/loop", 7, 200)
        .mode(0o660)
        .owner(0, 6)
        .file("root/named owner", "x")
        .owner(33, 33)
        .file("root/unknown owner", "x")
        .owner(54_321, 54_322)
        .file("root/large id", "x")
        .owner(4_000_000_000, 4_000_000_001)
        .dir("root/dir of another")
        .owner(54_321, 33)
        .symlink("root/link of another", "null")
        .owner(33, 54_322)
        .fifo("root/fifo of another")
        .owner(33, 33)
        .file("root/setuid of another", "x")
        .owner(54_321, 54_321)
        .mode(0o6755)
}

/// Attributes that only root can set, and that only `privileged_xattrs` keeps.
pub(crate) fn privileged_attributes() -> Tree {
    // cap_net_bind_service, permitted and effective: `struct vfs_cap_data`, revision 2.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    Tree::new()
        .file("privileged/trusted", "x")
        .xattr("trusted.note", "for root")
        .dir("privileged/trusted dir")
        .xattr("trusted.note", "for root")
        .symlink("privileged/trusted link", "trusted")
        .xattr("trusted.note", "on a symlink")
        .file("privileged/capable", "x")
        .mode(0o755)
        .xattr("security.capability", capability)
        .file("privileged/capable, of another", "x")
        .owner(33, 33)
        .mode(0o755)
        .xattr("security.capability", capability)
}

/// Several names of one symlink and of one FIFO.
pub(crate) fn linked_special_files() -> Tree {
    Tree::new()
        .symlink("special/link", "target")
        .hard_link("special/link too", "special/link")
        .fifo("special/fifo")
        .hard_link("special/fifo too", "special/fifo")
}

/// `size` bytes that don't compress and that depend on `seed` only.
pub(crate) fn pattern(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
