//! Real platforms to push: Debian's `wordpress` and `mediawiki`, unpacked without being installed.
//!
//! Packages come from the mirror that this machine's apt already uses, through apt itself with
//! lists of its own, so neither root nor a fresh `apt-get update` of the machine is needed and
//! nothing of the machine changes. The releases are fixed, whatever this machine runs. Unpacked
//! trees are kept in `target/tmp/debian/` and must not be written to: [`copy_tree`] first.

use super::run::{Output, run_within};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// The release that platforms come from.
const RELEASE: &str = "bookworm";
/// The release that upgrades come from.
const NEWER_RELEASE: &str = "trixie";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const LIMIT: Duration = Duration::from_secs(240);

/// WordPress of the older release, with the files of other packages that it links to.
#[track_caller]
pub(crate) fn wordpress() -> PathBuf {
    cached("wordpress", older_wordpress).unwrap_or_else(|error| panic!("{error}"))
}

/// WordPress of the newer release, or, where that can't be had, the older one patched.
#[track_caller]
pub(crate) fn wordpress_upgraded() -> PathBuf {
    cached("wordpress-newer", newer_wordpress).unwrap_or_else(|error| {
        eprintln!("no WordPress of {NEWER_RELEASE}, patching the older one instead: {error}");
        let older = wordpress();
        cached("wordpress-patched", |to| patched(&older, to))
            .unwrap_or_else(|error| panic!("{error}"))
    })
}

/// MediaWiki as its package has it, with symlinks to `/var/lib/mediawiki` that lead nowhere.
#[track_caller]
pub(crate) fn mediawiki() -> PathBuf {
    cached("mediawiki", |to| {
        let root = unpack(RELEASE, &["mediawiki", "mediawiki-classes"], to)?;
        rename(&root.join("usr/share/mediawiki"), &to.join("tree"))
    })
    .unwrap_or_else(|error| panic!("{error}"))
}

/// wp-cli, as one npm package ships it: Debian has none.
#[track_caller]
pub(crate) fn wp_cli() -> PathBuf {
    const PACKAGE: &str = "wp-studio@1.22.0";
    const FILE: &str = "package/dist/cli/wp-files/wp-cli/wp-cli.phar";
    cached("wp-cli-2.12.0", |to| {
        let mut pack = Command::new("npm");
        pack.current_dir(to)
            .args(["pack", "--silent", "--ignore-scripts", PACKAGE]);
        ask(&mut pack)?;
        let mut unpack = Command::new("tar");
        unpack
            .current_dir(to)
            .args(["-xzf", "wp-studio-1.22.0.tgz", FILE]);
        ask(&mut unpack)?;
        rename(&to.join(FILE), &to.join("tree"))
    })
    .unwrap_or_else(|error| panic!("{error}"))
}

/// Copies a tree with all its attributes to `destination`, which must not exist.
#[track_caller]
pub(crate) fn copy_tree(source: &Path, destination: &Path) {
    let mut command = Command::new("cp");
    command
        .args(["--archive", "--reflink=auto", "--"])
        .arg(source)
        .arg(destination);
    run_within(&mut command, b"", LIMIT).success();
}

fn older_wordpress(to: &Path) -> Result<(), String> {
    let packages = [
        "wordpress",
        "wordpress-theme-twentytwentythree",
        "libjs-cropper",
        "libjs-underscore",
        "php-getid3",
    ];
    dereferenced_wordpress(RELEASE, &packages, to)
}

fn newer_wordpress(to: &Path) -> Result<(), String> {
    let packages = [
        "wordpress",
        "wordpress-theme-twentytwentyfive",
        "libjs-cropper",
        "libjs-lodash",
        "libjs-underscore",
        "php-getid3",
    ];
    dereferenced_wordpress(NEWER_RELEASE, &packages, to)
}

fn dereferenced_wordpress(release: &str, packages: &[&str], to: &Path) -> Result<(), String> {
    let root = unpack(release, packages, to)?;
    let copied = dereference(&root, &root.join("usr/share/wordpress"), &to.join("tree"));
    copied.map_err(|error| format!("copy WordPress out of its packages: {error}"))
}

/// Changes a line of every tenth PHP file, adds some files and removes others.
fn patched(older: &Path, to: &Path) -> Result<(), String> {
    let tree = to.join("tree");
    copy_tree(older, &tree);
    let patch = || -> io::Result<()> {
        let files = walkdir::WalkDir::new(&tree).sort_by_file_name().into_iter();
        let files = files
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_file());
        for (number, entry) in files.enumerate() {
            let path = entry.path();
            match number % 40 {
                0 | 10 | 20 => {
                    let mut content = fs::read(path)?;
                    let middle = content.len() / 2;
                    content.splice(middle..middle, *b"\n// Patched for the next version.\n");
                    fs::write(path, content)?;
                }
                30 => fs::remove_file(path)?,
                39 => fs::write(path.with_extension("added.php"), "<?php\n")?,
                _ => {}
            }
        }
        Ok(())
    };
    patch().map_err(|error| format!("patch WordPress: {error}"))
}

/// The tree called `name` in the cache. `make` gets a directory to work in and leaves the tree
/// there as `tree`. Other test processes wait meanwhile.
fn cached(name: &str, make: impl FnOnce(&Path) -> Result<(), String>) -> Result<PathBuf, String> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debian");
    let context = |error: io::Error| format!("prepare {}: {error}", cache.display());
    fs::create_dir_all(&cache).map_err(context)?;
    let lock = fs::File::create(cache.join(format!("{name}.lock"))).map_err(context)?;
    lock.lock().map_err(context)?;
    let tree = cache.join(name);
    if !tree.exists() {
        let work = tempfile::Builder::new()
            .prefix("work-")
            .tempdir_in(&cache)
            .map_err(context)?;
        make(work.path())?;
        rename(&work.path().join("tree"), &tree)?;
    }
    Ok(tree)
}

/// Downloads packages of `release` and unpacks them into one root below `to`.
fn unpack(release: &str, packages: &[&str], to: &Path) -> Result<PathBuf, String> {
    let options = apt_options(release, to)?;
    ask(Command::new("apt-get")
        .args(&options)
        .args(["--quiet=2", "update"]))?;
    let wanted = packages
        .iter()
        .map(|package| format!("{package}/{release}"));
    let mut download = Command::new("apt-get");
    download
        .current_dir(to)
        .args(&options)
        .args(["--quiet=2", "download"])
        .args(wanted);
    ask(&mut download)?;
    let root = to.join("root");
    let entries = fs::read_dir(to).map_err(|error| format!("list {}: {error}", to.display()))?;
    let debs = entries.filter_map(|entry| Some(entry.ok()?.path()));
    for deb in debs.filter(|path| path.extension().is_some_and(|extension| extension == "deb")) {
        ask(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&root))?;
    }
    Ok(root)
}

/// Options that give apt lists, caches and sources of its own below `to`.
fn apt_options(release: &str, to: &Path) -> Result<Vec<String>, String> {
    let mirror = mirror()?;
    let write = || -> io::Result<()> {
        fs::create_dir_all(to.join("lists/partial"))?;
        fs::create_dir_all(to.join("cache/archives/partial"))?;
        let source = format!("deb [signed-by={KEYRING}] {mirror} {release} main\n");
        fs::write(to.join("sources.list"), source)
    };
    write().map_err(|error| format!("set up apt in {}: {error}", to.display()))?;
    let at = |option: &str, name: &str| format!("-oDir::{option}={}", to.join(name).display());
    let mut options = vec![
        at("Etc::SourceList", "sources.list"),
        at("Etc::SourceParts", "none"),
        at("State::Lists", "lists"),
        at("Cache", "cache"),
        "-oAcquire::Languages=none".to_owned(),
        "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        "-oAcquire::Retries=3".to_owned(),
        "-oAcquire::http::Timeout=30".to_owned(),
        "-oAPT::Update::Error-Mode=any".to_owned(),
    ];
    if super::is_root() {
        // The user that apt would download as can't write here.
        options.push("-oAPT::Sandbox::User=root".to_owned());
    }
    Ok(options)
}

/// Where this machine gets Debian's main archive from.
fn mirror() -> Result<String, String> {
    static MIRROR: OnceLock<Result<String, String>> = OnceLock::new();
    let find = || {
        let mut command = Command::new("apt-get");
        command.args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE) $(COMPONENT)",
        ]);
        let targets = ask(command.arg("Created-By: Packages"))?.text();
        let is_main = |line: &&str| match *line.split(' ').collect::<Vec<_>>() {
            [_, release, "main"] => !release.contains(['-', '/']),
            _ => false,
        };
        let line = targets.lines().find(is_main);
        let uri = line
            .and_then(|line| line.split(' ').next())
            .map(str::to_owned);
        uri.ok_or_else(|| "This machine's apt knows no Debian mirror".to_owned())
    };
    MIRROR.get_or_init(find).clone()
}

fn ask(command: &mut Command) -> Result<Output, String> {
    if !super::run::is_installed(&command.get_program().to_string_lossy()) {
        return Err("apt-get, dpkg-deb and npm are needed to fetch test platforms".to_owned());
    }
    let output = run_within(command.env("LC_ALL", "C.UTF-8"), b"", LIMIT);
    match output.code {
        Some(0) => Ok(output),
        _ => Err(format!("a package can't be fetched\n{}", output.describe())),
    }
}

/// Copies `from` to `to`, and, in the place of a symlink, what it leads to inside `root`. A symlink
/// that leads to nothing there stays one.
fn dereference(root: &Path, from: &Path, to: &Path) -> io::Result<()> {
    let Some(resolved) = resolve(root, from)? else {
        return symlink(fs::read_link(from)?, to);
    };
    let metadata = fs::symlink_metadata(&resolved)?;
    if metadata.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(&resolved)? {
            let name = entry?.file_name();
            dereference(root, &resolved.join(&name), &to.join(&name))?;
        }
        fs::set_permissions(to, metadata.permissions())?;
    } else {
        fs::copy(&resolved, to)?;
    }
    super::tree::set_mtime(to, metadata.mtime(), metadata.mtime_nsec());
    Ok(())
}

fn resolve(root: &Path, path: &Path) -> io::Result<Option<PathBuf>> {
    const MOST_LINKS: usize = 8;
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            Ok(metadata) if !metadata.is_symlink() => return Ok(Some(path)),
            Ok(_) => {
                let target = fs::read_link(&path)?;
                path = match target.strip_prefix("/") {
                    Ok(below) => root.join(below),
                    Err(_) => path.parent().unwrap_or(root).join(target),
                };
            }
        }
    }
    Ok(None)
}

fn rename(from: &Path, to: &Path) -> Result<(), String> {
    fs::rename(from, to).map_err(|error| format!("keep {}: {error}", to.display()))
}
