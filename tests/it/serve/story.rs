//! The story of the README's second section, from nothing to a site behind a balancer, and what
//! happens to it afterwards; every step looked at from outside.

use super::farm::{Farm, SERVICES, Server, answers};
use crate::support::debian;
use crate::support::root_or_skip;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const SITE: &str = "www.example.com";
const WIKI: &str = "wiki.example.com";

#[test]
fn netns_from_nothing_to_a_site_that_answers_through_the_balancer_debian() {
    if !root_or_skip("hosts of their own") {
        return;
    }
    let source = debian::wordpress();
    let mut farm = Farm::start(2);
    farm.db.start_mariadb();
    for server in farm.web.iter().chain([&farm.db, &farm.lb]) {
        farm.carry_token(server);
    }
    // The README's second section as it stands. Programs are started by their servers.
    farm.type_in("serve-join");
    farm.web[0].start_nginx();
    farm.web[1].start_apache();
    copy_to_hub(&farm, &source);
    let began = Instant::now();
    farm.type_in("serve-site");
    farm.lb.start_haproxy();
    let (status, _) = farm.visit(SITE, "/");
    assert_eq!(status, 503, "not installed yet");
    farm.type_in("serve-install");
    eprintln!("from change to every member proved: {:?}", began.elapsed());
    let (status, body) = farm.visit(SITE, "/");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("Fanout story"), "{body}");
    for server in &farm.web {
        let (status, body) = farm.ask(server, SITE, "/");
        assert_eq!(status, 200, "{}: {body}", server.host.name());
        assert!(body.contains("Fanout story"), "{}", server.host.name());
    }

    // A third web server: one edit, one command.
    let third = Server::start(&farm.lab, "web3", "web,app,setup");
    farm.join(&third, "--web nginx");
    farm.fanout("setup server web3 --yes").success();
    third.start_nginx();
    farm.fanout("edit cluster front --add-members web3")
        .success();
    // The hub dies in the middle of it; whatever had been done, the rest is done afterwards.
    let mut cut_off = farm.hub.spawn(&["fanout", "apply", "--yes"]);
    std::thread::sleep(Duration::from_millis(900));
    cut_off.kill();
    farm.fanout("log").success();
    farm.fanout("apply --resume").success();
    let (status, body) = farm.ask(&third, SITE, "/");
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("Fanout story"));

    // The environment is looked at as well: here nothing is missing, and then one line is.
    let healthy = farm.fanout("doctor").success();
    assert!(
        healthy.error_text().contains(" 0 findings"),
        "{}",
        healthy.describe()
    );
    third
        .host
        .sh("mv /etc/nginx/conf.d/fanout.conf /root/")
        .success();
    let ill = farm.fanout("doctor web3").exits(2);
    assert!(
        ill.text().contains("doesn't include fanout's files"),
        "{}",
        ill.describe()
    );
    assert!(
        ill.text().contains("remedy: fanout setup server web3"),
        "{}",
        ill.describe()
    );
    third
        .host
        .sh("mv /root/fanout.conf /etc/nginx/conf.d/")
        .success();
    doctor_names_what_is_wrong(&farm, &third);

    // One dies under load, and comes back.
    let load = farm.load(SITE, 15);
    std::thread::sleep(Duration::from_secs(2));
    farm.web[1].cut();
    std::thread::sleep(Duration::from_secs(6));
    farm.web[1].mend();
    let output = load.finish_within(Duration::from_secs(60));
    let (by_status, lost) = answers(&output);
    eprintln!("a member dies and returns under load: {by_status:?}, {lost} without an answer");
    assert!(
        by_status.iter().all(|(status, _)| *status == 200),
        "{}",
        output.describe()
    );

    // The pages that members show by themselves.
    farm.fanout(&format!("maintenance site {SITE} --yes"))
        .success();
    assert_eq!(farm.visit(SITE, "/").0, 503);
    farm.fanout(&format!("disable site {SITE} --yes")).success();
    assert_eq!(farm.visit(SITE, "/").0, 403);
    farm.fanout(&format!("enable site {SITE} --yes")).success();
    assert_eq!(farm.visit(SITE, "/").0, 200);

    // An editor's picture goes through the balancer to the pinned member, and from there to all.
    upload_a_picture(&farm, &third);

    // What a visitor left on the pinned member is there on all of them.
    let uploads = "/srv/platforms/blog/wp-content/uploads";
    farm.web[0]
        .host
        .sh(&format!(
            "echo picture >{uploads}/picture.txt && chmod 644 {uploads}/picture.txt"
        ))
        .success();
    farm.fanout("deliver uploads").success();
    for server in farm.web.iter().chain([&third]) {
        let answer = farm.ask(server, SITE, "/wp-content/uploads/picture.txt");
        assert_eq!(answer, (200, "picture\n".into()), "{}", server.host.name());
    }

    // What drifted beside the code is restored by the clock: an account that somebody dropped, and
    // what was uploaded since.
    let second = farm.web[1].host.address();
    let user = sql(
        &farm,
        &format!("select user from mysql.user where host='{second}'"),
    );
    sql(&farm, &format!("drop user '{user}'@'{second}'"));
    assert_eq!(accounts(&farm, &second), "0");
    farm.web[0]
        .host
        .sh(&format!(
            "echo later >{uploads}/later.txt && chmod 644 {uploads}/later.txt"
        ))
        .success();
    farm.fanout("resync").success();
    assert_eq!(accounts(&farm, &second), "1");
    assert_eq!(farm.ask(&farm.web[1], SITE, "/").0, 200);
    let answer = farm.ask(&third, SITE, "/wp-content/uploads/later.txt");
    assert_eq!(answer, (200, "later\n".into()));
    let quiet = farm.fanout("resync").success();
    assert_eq!(quiet.text(), "", "{}", quiet.describe());

    // Periodic work stays with its runner, and moves when that dies.
    let on = |farm: &Farm| {
        let said = farm.fanout(&format!("cron site {SITE}")).success();
        let said = said.error_text();
        let at = said.rfind("on web").unwrap_or_else(|| panic!("{said}"));
        said[at + 3..at + 7].to_owned()
    };
    assert_eq!(on(&farm), "web1");
    farm.web[0].stop_agent();
    let other = on(&farm);
    assert_ne!(other, "web1");
    farm.web[0].start_agent();
    assert_eq!(on(&farm), other, "it stays where it is now");

    // A second application on two of the three members.
    let wiki = debian::mediawiki();
    debian::copy_tree(&wiki, &farm.hub.path("/srv/src/wiki"));
    let links = "find /srv/src/wiki -type l ! -exec test -e {} ';' -delete";
    farm.hub.sh(links).success();
    let platform =
        "add platform wiki --app mediawiki --path /srv/src/wiki --root /srv/platforms/wiki";
    farm.fanout("add cluster pair --members web1,web2 --balancer edge")
        .success();
    farm.fanout(&format!("{platform} --on pair")).success();
    farm.fanout("push platform wiki").success();
    let site = format!("add site {WIKI} --platform wiki --db db1 --uploads pin:web1");
    farm.fanout(&format!(
        "{site} --title 'Fanout wiki' --mail admin@example.com"
    ))
    .success();
    farm.fanout(&format!("install site {WIKI} --yes")).success();
    let wiki_on = |farm: &Farm, server: &Server| {
        let (status, body) = farm.ask(server, WIKI, "/index.php/Main_Page");
        status == 200 && body.contains("Fanout wiki")
    };
    for server in &farm.web {
        assert!(wiki_on(&farm, server), "{}", server.host.name());
        // What stands behind the script's name reaches it, with nginx and with apache.
        let (status, body) = farm.ask(server, WIKI, "/rest.php/v1/page/Main_Page/bare");
        assert_eq!(status, 200, "{}: {body}", server.host.name());
        assert!(body.contains("\"title\":\"Main Page\""), "{body}");
    }
    assert!(wiki_on(&farm, &farm.lb));

    // It moves to a server that never had it. Who has it now keeps it until that one is proved.
    farm.fanout("add cluster solo --members web3 --balancer edge")
        .success();
    farm.fanout(&format!("edit site {WIKI} --unset uploads"))
        .success();
    farm.fanout("edit platform wiki --on solo").success();
    third
        .host
        .sh("while pids=$(pidof php-fpm8.2); do kill -9 $pids || true; sleep 0.05; done")
        .success();
    let failed = farm.fanout(&format!("apply --yes --allow-remove {WIKI}"));
    assert_ne!(failed.code, Some(0), "{}", failed.describe());
    for server in farm.web.iter().chain([&farm.lb]) {
        assert!(wiki_on(&farm, server), "{}", server.host.name());
    }
    third
        .host
        .sh("rm -f /run/php/*.sock; php-fpm8.2 --daemonize")
        .success();
    farm.fanout(&format!("apply --yes --allow-remove {WIKI}"))
        .success();
    assert!(wiki_on(&farm, &third));
    assert!(wiki_on(&farm, &farm.lb));
    for server in &farm.web {
        assert!(!wiki_on(&farm, server), "{}", server.host.name());
        assert_eq!(accounts(&farm, &server.host.address()), "1", "the blog's");
    }
    assert_eq!(accounts(&farm, &third.host.address()), "2");
    farm.fanout("plan --detailed-exitcode").success();

    // And it is deleted, but for what is in its database.
    farm.fanout(&format!("delete site {WIKI} --yes-delete {WIKI}"))
        .success();
    assert_ne!(farm.ask(&third, WIKI, "/index.php/Main_Page").0, 200);
    assert_eq!(accounts(&farm, &third.host.address()), "1");
    let databases = sql(&farm, "show databases like '%wiki%'");
    assert_eq!(databases.lines().count(), 1, "{databases}");
    farm.fanout("delete platform wiki --yes-delete wiki")
        .success();

    // An upgrade and the way back, under load.
    let upgraded = debian::wordpress_upgraded();
    copy_to_hub(&farm, &upgraded);
    let load = farm.load(SITE, 25);
    farm.fanout("push platform blog --update after").success();
    let began = Instant::now();
    farm.fanout("rollback platform blog").success();
    eprintln!("from rollback to proved: {:?}", began.elapsed());
    let output = load.finish_within(Duration::from_secs(60));
    let (by_status, lost) = answers(&output);
    eprintln!("push and rollback under load: {by_status:?}, {lost} without an answer");
    assert_eq!(lost, 0, "{}", output.describe());
    assert!(
        by_status.iter().all(|(status, _)| *status == 200),
        "{}",
        output.describe()
    );

    // The same once more with maintenance pages meanwhile; and what was uploaded is still there.
    farm.fanout("push platform blog --update maintenance")
        .success();
    assert_eq!(farm.visit(SITE, "/").0, 200);
    // And with the new code on one member, out of rotation, while the schema is updated.
    farm.fanout("rollback platform blog --to 3").success();
    let load = farm.load(SITE, 15);
    farm.fanout("push platform blog --update expand").success();
    let output = load.finish_within(Duration::from_secs(60));
    let (by_status, lost) = answers(&output);
    eprintln!("a push that updates first, under load: {by_status:?}, {lost} without an answer");
    assert_eq!(lost, 0, "{}", output.describe());
    assert!(
        by_status.iter().all(|(status, _)| *status == 200),
        "{}",
        output.describe()
    );
    let status = farm.fanout("status --json").success().json_result();
    let members = status["platforms"][0]["members"].as_array().unwrap();
    for member in members {
        assert_eq!(member["rotation"]["state"], "in", "{status}");
        assert_eq!(member["state"], "up-to-date", "{status}");
    }
    let answer = farm.visit(SITE, "/wp-content/uploads/picture.txt");
    assert_eq!(answer, (200, "picture\n".into()));
    for server in farm.web.iter().chain([&third]) {
        let (status, _) = farm.ask(server, SITE, &picture(&farm));
        assert_eq!(status, 200, "{}", server.host.name());
    }

    // A member leaves: out of rotation, without accounts, without keys and files.
    farm.fanout("edit cluster front --remove-members web3")
        .success();
    let shown = farm.fanout("plan").success();
    assert!(
        shown.text().contains("no longer listed"),
        "{}",
        shown.describe()
    );
    // A saved plan is carried out as it was shown, or not at all.
    farm.fanout("plan --out /root/leave.plan --allow-remove web3")
        .success();
    let vhost = format!("{SERVICES}/current/nginx/site-{SITE}.conf");
    farm.web[0]
        .host
        .sh(&format!("echo '# by hand' >>{vhost}"))
        .success();
    farm.fanout("apply /root/leave.plan").exits(5);
    let seen = farm
        .fanout("plan --out /root/leave.plan --allow-remove web3")
        .success();
    assert!(
        seen.text().contains("edited by hand"),
        "{}",
        seen.describe()
    );
    farm.fanout("apply /root/leave.plan").success();
    let text = farm.web[0].host.run(&["cat", &vhost]).success().text();
    assert!(!text.contains("by hand"), "{text}");
    assert_eq!(accounts(&farm, &third.host.address()), "0");
    let (status, _) = farm.visit(SITE, "/");
    assert_eq!(status, 200);

    // Another will never answer again: nothing is asked of it, and what it had elsewhere goes.
    farm.web[1].cut();
    for cluster in ["front", "pair"] {
        farm.fanout(&format!("edit cluster {cluster} --remove-members web2"))
            .success();
    }
    farm.fanout("apply --yes --gone web2").success();
    assert_eq!(accounts(&farm, &second), "0");
    assert_eq!(farm.visit(SITE, "/").0, 200);
    farm.fanout("plan --detailed-exitcode --gone web2")
        .success();
}

/// What a statement answers, asked by the database server's own administrator.
#[track_caller]
fn sql(farm: &Farm, statement: &str) -> String {
    let asked = farm.db.host.run(&["mariadb", "-N", "-e", statement]);
    asked.success().text().trim().to_owned()
}

/// How many accounts may come from an address.
#[track_caller]
fn accounts(farm: &Farm, address: &IpAddr) -> String {
    let of = format!("select count(*) from mysql.user where host='{address}'");
    sql(farm, &of)
}

/// What an editor's browser does, with what `fanout login site` prints: a new password, a login, a
/// picture for the library.
const EDITOR: &str = r#"
cd /root
link=$(fanout login site SITE)
ask() { curl -sS -m 60 --resolve SITE:80:BALANCER -b jar -c jar "$@"; }
ask -L "$link" >form.html
key=$(sed -n 's/.*name="rp_key" value="\([^"]*\)".*/\1/p' form.html)
user=$(echo "$link" | sed 's/.*login=//')
word=correct-horse-battery-9-staple
ask -d "rp_key=$key" -d "pass1=$word" -d "pass2=$word" -d pw_weak=1     'http://SITE/wp-login.php?action=resetpass' >reset.html
ask 'http://SITE/wp-login.php' >login.html
ask -d "log=$user" -d "pwd=$word" -d testcookie=1 'http://SITE/wp-login.php' >/dev/null
ask 'http://SITE/wp-admin/media-new.php' >media.html
nonce=$(sed -n 's/.*name="_wpnonce" value="\([^"]*\)".*/\1/p' media.html | head -n 1)
echo iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg== |
    base64 -d >cat.png
ask -F name=cat.png -F action=upload-attachment -F "_wpnonce=$nonce" -F async-upload=@cat.png     'http://SITE/wp-admin/async-upload.php' >uploaded.json
grep -q '"success":true' uploaded.json || { head -c 2000 uploaded.json media.html reset.html; exit 1; }
sed -n 's/.*"url":"http:[^"]*example.com\([^"]*cat[^"]*png\)".*/\1/p' uploaded.json | tr -d '\\' >picture
"#;

fn upload_a_picture(farm: &Farm, third: &Server) {
    let balancer = farm.lb.host.address().to_string();
    let script = EDITOR.replace("SITE", SITE).replace("BALANCER", &balancer);
    farm.hub.sh(&script).success();
    let picture = picture(farm);
    assert!(picture.contains("/wp-content/uploads/"), "{picture:?}");
    let file = format!("/srv/platforms/blog{picture}");
    let has = |server: &Server| server.host.run(&["test", "-s", &file]).code == Some(0);
    assert!(has(&farm.web[0]), "it went to the pinned member");
    assert!(!has(&farm.web[1]) && !has(third), "and to no other yet");
    let began = Instant::now();
    farm.fanout("deliver uploads").success();
    eprintln!("an upload on every member after {:?}", began.elapsed());
    for server in farm.web.iter().chain([third]) {
        let (status, body) = farm.ask(server, SITE, &picture);
        assert_eq!(status, 200, "{}", server.host.name());
        assert!(body.contains("PNG"), "{}", server.host.name());
    }
}

/// Where the editor's picture is.
fn picture(farm: &Farm) -> String {
    let text = farm.hub.run(&["cat", "/root/picture"]).success().text();
    text.trim().to_owned()
}

/// The source tree, where the hub has it.
#[track_caller]
fn copy_to_hub(farm: &Farm, source: &std::path::Path) {
    farm.hub
        .sh("rm -rf /srv/src/blog && mkdir -p /srv/src")
        .success();
    let to = farm.hub.path("/srv/src/blog");
    debian::copy_tree(source, &to);
    // Debian's own leads to files in /etc; without one, fanout's leads to the site's settings.
    farm.hub
        .run(&["rm", "-f", "/srv/src/blog/wp-config.php"])
        .success();
}

/// Space, inodes, numbers of users, certificates, shares, templates: each is found, with its remedy.
#[track_caller]
fn doctor_names_what_is_wrong(farm: &Farm, third: &Server) {
    let ill = |found: &[&str]| {
        let said = farm.fanout("doctor").exits(2);
        let text = said.text();
        for words in found {
            let at = text.find(words);
            let at = at.unwrap_or_else(|| panic!("{words}\n{}", said.describe()));
            let next = text[at..].lines().nth(1).unwrap_or_default();
            let has_remedy = words.starts_with("remedy: ") || next.starts_with("  remedy: ");
            assert!(has_remedy, "{words}\n{}", said.describe());
        }
    };
    // The file system of the platforms is full, in bytes and in inodes.
    let cover = "mount -t tmpfs -o size=1m,nr_inodes=32 tmpfs";
    third
        .host
        .sh(&format!(
            "{cover} /srv && cd /srv && head -c 1000000 /dev/zero >full &&
             for n in $(seq 31); do touch $n || break; done 2>/dev/null; true"
        ))
        .success();
    ill(&["web3  disk: ", "web3  inodes: "]);
    third.host.sh("umount /srv").success();
    // The web server's user has another number there.
    third
        .host
        .sh("cp /etc/passwd /root/ && sed -i 's/^www-data:x:33:/www-data:x:4033:/' /etc/passwd")
        .success();
    ill(&["users: `www-data` is 33:33 on web1, web2 and 4033:33 on web3"]);
    third.host.sh("cat /root/passwd >/etc/passwd").success();
    // Its account in the database was locked.
    let lock = |word: &str| {
        let accounts = format!(
            "SELECT CONCAT(QUOTE(User), '@', QUOTE(Host)) FROM mysql.user WHERE Host = '{}'",
            third.host.address()
        );
        farm.db
            .host
            .sh(&format!(
                "mariadb -Ne \"{accounts}\" | while read one; do \
                 mariadb -e \"ALTER USER $one ACCOUNT {word}\"; done"
            ))
            .success();
    };
    lock("LOCK");
    ill(&["web3  database: can't log in to the database of www.example.com: "]);
    lock("UNLOCK");
    // A site whose certificate ends soon, names another host and has no chain, and whose uploads lie
    // on a share that is mounted nowhere.
    farm.hub
        .sh(
            "cd /root && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
             -days 10 -subj /CN=old.example -addext subjectAltName=DNS:old.example \
             -keyout old.key -out old.pem 2>/dev/null &&
             openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out other.key &&
             chmod 600 *.key",
        )
        .success();
    let site = "tls.example.com";
    farm.fanout(&format!(
        "add site {site} --platform blog --uploads mount:/srv/share --tls optional \
         --certificate /root/old.pem --key file:/root/old.key"
    ))
    .success();
    ill(&[
        "certificate: tls.example.com: the certificate ends in ",
        "the certificate is signed by itself",
        "the certificate doesn't name tls.example.com",
        "web1  share: tls.example.com: web1: nothing is mounted at /srv/share",
        "remedy: mount the share at /srv/share on web3, writable",
    ]);
    farm.fanout(&format!("edit site {site} --key file:/root/other.key"))
        .success();
    ill(&[
        "certificate: tls.example.com: ",
        "remedy: give the key that belongs to it",
    ]);
    farm.fanout(&format!("remove site {site}")).success();
    let template = "/etc/fanout/templates/nginx-fastcgi.inc";
    farm.hub.write(
        template,
        "fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;\n",
    );
    ill(&["templates: templates/nginx-fastcgi.inc hands $document_root to PHP"]);
    farm.hub.sh("rm -r /etc/fanout/templates").success();
    let healthy = farm.fanout("doctor").success();
    assert!(
        healthy.error_text().contains(" 0 findings"),
        "{}",
        healthy.describe()
    );
}
