//! What visitors send through the balancer, and who serves it afterwards.

use super::edge::{Edge, MEMBERS, PLAIN, Plan, SITE, is_ready, write_release};
use std::time::Instant;

/// The site's user, whom every member has.
const USER: &str = "www-data";

impl Edge {
    /// Sends a form with a file through the balancer; returns the member that took it.
    #[track_caller]
    fn upload(&self, name: &str, content: &str) -> String {
        let lb = self.world.agent_host(MEMBERS).address();
        let script = format!(
            "printf '%s' '{content}' >/tmp/{name}
             curl -sS -m 20 --fail -H 'Host: {SITE}' -F 'file=@/tmp/{name}' http://{lb}/upload.php"
        );
        let text = self.world.hub_host().sh(&script).success().text();
        text.trim().to_owned()
    }

    /// What somebody serves at a path: status and body.
    #[track_caller]
    fn served(&self, by: usize, path: &str) -> (String, String) {
        let address = self.world.agent_host(by).address();
        let ask = format!(
            "curl -s -m 20 -w '\\n%{{http_code}}' -H 'Host: {SITE}' 'http://{address}{path}'"
        );
        let text = self.world.hub_host().sh(&ask).text();
        let (body, status) = text.rsplit_once('\n').unwrap_or_default();
        (status.to_owned(), body.to_owned())
    }

    /// Every member and the balancer serve this.
    #[track_caller]
    fn all_serve(&self, when: &str, path: &str, content: &str) {
        for by in 0..=MEMBERS {
            let expected = ("200".to_owned(), content.to_owned());
            assert_eq!(self.served(by, path), expected, "{when}: {path} at {by}");
        }
    }

    /// The file and the style sheet that was made for it.
    #[track_caller]
    fn all_serve_upload(&self, when: &str, name: &str, content: &str) {
        self.all_serve(when, &format!("/uploads/{name}"), content);
        let css = format!("/uploads/css/{name}.css");
        self.all_serve(when, &css, &format!("/* made for {name} */\n"));
    }

    /// A new release and the way back, and a resync of a member that lost a file.
    #[track_caller]
    fn is_changed(&self, check: impl Fn(&str)) {
        write_release(&self.world, 2);
        let pushed = self.world.push("shop", &["--rolling", "1"]).success();
        pushed.all("committed");
        check("after a push");
        let lost = self.world.live(1, "shop").join("lib/part-3.php");
        std::fs::remove_file(&lost).unwrap();
        self.world.resync(&[]).success();
        assert!(lost.exists());
        check("after a resync");
        let rollback = ["rollback", "platform", "shop", "--rolling", "1", "--yes"];
        self.fanout(&rollback).success();
        check("after a rollback");
    }
}

#[test]
fn what_visitors_upload_is_served_by_every_member() {
    if !is_ready() {
        return;
    }
    let edge = Edge::start(Plan {
        site: "uploads = { pin = \"web1\" }\nuser = \"www-data\"",
        ..PLAIN
    });
    for index in 0..MEMBERS {
        let uploads = edge.world.live(index, "shop").join("uploads");
        let make = format!("install -d -o {USER} -g {USER} '{}'", uploads.display());
        edge.world.agent_host(index).sh(&make).success();
    }
    let pinned = edge.upload("first.txt", "one");
    for name in ["a.txt", "b.txt", "c.txt", "d.txt"] {
        assert_eq!(edge.upload(name, "word"), pinned, "forms go to one member");
    }
    let has = |index: usize| {
        edge.world
            .live(index, "shop")
            .join("uploads/a.txt")
            .exists()
    };
    assert!(has(0) && !has(1), "it lies on the pinned member alone");
    let began = Instant::now();
    edge.fanout(&["deliver", "uploads"]).success();
    eprintln!("ten files on every member after {:?}", began.elapsed());
    for name in ["a.txt", "b.txt", "c.txt", "d.txt"] {
        edge.all_serve_upload("delivered", name, "word");
    }
    edge.is_changed(|when| {
        edge.all_serve_upload(when, "first.txt", "one");
        let new = format!("{}.txt", when.replace(' ', "-"));
        assert_eq!(edge.upload(&new, when), pinned);
        edge.fanout(&["deliver", "uploads"]).success();
        edge.all_serve_upload(when, &new, when);
    });
    // What changes is brought as well.
    edge.upload("first.txt", "two");
    edge.fanout(&["deliver", "uploads"]).success();
    edge.all_serve_upload("changed", "first.txt", "two");

    // The same site with a share: refused until it is one, then served by all at once.
    let share = |what: &str, index: usize| {
        let world = &edge.world;
        let point = world.agent_prefix(index).join("mnt/files");
        let dir = world.dir().join(what);
        let (point, dir) = (point.display().to_string(), dir.display().to_string());
        let mount = match what {
            "tmpfs" => format!("mount -t tmpfs tmpfs '{point}'"),
            _ => format!("mount --bind '{dir}' '{point}'"),
        };
        let script = format!(
            "umount '{point}' 2>/dev/null || true
             mkdir -p '{point}' '{dir}'; chown {USER}: '{dir}'; {mount}"
        );
        world.agent_host(index).sh(&script).success();
    };
    let section = format!("sites.\"{SITE}\"");
    edge.world
        .configure(&section, &["uploads = { mount = \"/mnt/files\" }"]);
    let plan = edge.fanout(&["plan"]).everything_said();
    assert!(plan.contains("nothing is mounted at /mnt/files"), "{plan}");
    let refused = |why: &str| {
        let output = edge.fanout(&["apply", "--yes"]);
        assert_ne!(output.code, Some(0), "{}", output.describe());
        let said = output.everything_said();
        assert!(said.contains(why), "{said}");
    };
    refused("nothing is mounted at /mnt/files");
    share("share", 0);
    refused("nothing is mounted at /mnt/files");
    // Another kind of file system, and another one of the same kind: either is found out.
    share("tmpfs", 1);
    refused("tmpfs on web2");
    share("another", 1);
    refused("/mnt/files on web2 is not what it is on web1");
    share("share", 1);
    edge.fanout(&["apply", "--yes"]).success();
    let left = std::fs::read_dir(edge.world.dir().join("share")).unwrap();
    assert_eq!(left.count(), 0, "the word is taken away again");
    for index in 0..MEMBERS {
        let uploads = edge.world.live(index, "shop").join("uploads");
        let point = edge.world.agent_prefix(index).join("mnt/files");
        let (uploads, point) = (uploads.display(), point.display());
        let lead = format!("rm -rf '{uploads}'; ln -s '{point}' '{uploads}'");
        edge.world.agent_host(index).sh(&lead).success();
    }
    edge.upload("shared.txt", "at once");
    edge.all_serve_upload("on a share", "shared.txt", "at once");
    edge.is_changed(|when| edge.all_serve_upload(when, "shared.txt", "at once"));
}
