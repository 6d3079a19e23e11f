//! `fanout setup server` on a Debian host.

use super::head::Head;
use crate::support::root_or_skip;

/// A package of its own in an archive of its own, so that something is left to install; and empty
/// ones for those of the usual that this machine doesn't have.
const ARCHIVE: &str = r#"
mkdir -p /srv/repo
cd /srv/repo
for name in fanouttest mysql xml mbstring gd curl intl opcache zip; do
    package=php8.2-$name
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -q installed && continue
    mkdir -p "$package/DEBIAN"
    cat >"$package/DEBIAN/control" <<END
Package: $package
Version: 1.0
Architecture: all
Maintainer: test <test@example.com>
Description: nothing
END
    dpkg-deb --build "$package" "$package.deb" >/dev/null
    {
        cat "$package/DEBIAN/control"
        echo "Filename: ./$package.deb"
        echo "Size: $(stat -c %s "$package.deb")"
        echo "SHA256: $(sha256sum "$package.deb" | cut -d' ' -f1)"
        echo
    } >>Packages
done
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d
mkdir /etc/apt/sources.list.d
echo 'deb [trusted=yes] file:/srv/repo ./' >/etc/apt/sources.list
"#;

/// What is in the directories of the server programs, but for fanout's own files.
const OWN_FILES: &str = "find /etc/nginx /etc/apache2 /etc/php /etc/haproxy /etc/default/haproxy \
    /lib/systemd/system/haproxy.service -type f ! -name '*fanout*' \
    -exec sha256sum {} + | sort";

fn head(web: &str) -> Option<Head> {
    if !root_or_skip("a host with a web server") {
        return None;
    }
    let head = Head::start();
    head.host.sh("mkdir -p /srv/src/shop").success();
    head.join_a_hub();
    head.host
        .run(&["fanout", "edit", "server", "web1", "--web", web])
        .success();
    head.host.sh(ARCHIVE).success();
    Some(head)
}

#[test]
fn a_server_is_prepared_without_a_change_to_what_it_has() {
    let Some(head) = head("nginx") else { return };
    let before = head.host.sh(OWN_FILES).text();
    let setup = |options: &[&str]| {
        let words = [
            "fanout",
            "setup",
            "server",
            "web1",
            "--extension",
            "fanouttest",
        ];
        head.host.run(&[&words[..], options].concat())
    };
    assert!(!head.facts().php[0].is_included);
    let printed = setup(&["--print"]).success().text();
    assert!(
        printed.contains("apt-get install -y --no-install-recommends"),
        "{printed}"
    );
    assert!(printed.contains("php8.2-fanouttest"), "{printed}");
    assert!(
        printed.contains("process_control_timeout = 10s"),
        "{printed}"
    );
    let plan = setup(&["--dry-run"]).success().text();
    assert!(
        plan.contains("+ install") && plan.contains("php8.2-fanouttest"),
        "{plan}"
    );
    assert!(!head.has("/etc/nginx/conf.d/fanout.conf"));
    setup(&["--yes"]).success();
    assert!(
        head.host
            .sh("dpkg-query -W php8.2-fanouttest")
            .success()
            .text()
            .contains("1.0")
    );
    let facts = head.facts();
    assert!(facts.nginx.unwrap().is_included);
    assert!(facts.php[0].is_included);
    assert_eq!(facts.php[0].control_timeout_s, 10);
    assert_eq!(head.host.sh(OWN_FILES).text(), before);
    let again = setup(&["--yes"]).success();
    assert!(again.error_text().contains("Nothing to do"), "{again:?}");
    // The programs start with it, before any site is there.
    head.host.sh("php-fpm8.2 --daemonize && nginx").success();
    // What has no package of that name is an error, not a half-prepared server.
    let unknown = head.host.run(&[
        "fanout",
        "setup",
        "server",
        "web1",
        "--extension",
        "nosuchthing",
        "--yes",
    ]);
    let said = unknown.exits(1).error_text();
    assert!(
        said.contains("nosuchthing") && said.contains("FX0711"),
        "{said}"
    );
}

#[test]
fn an_apache_that_is_broken_already_is_left_as_it_was() {
    let Some(head) = head("apache") else { return };
    let own = "/etc/apache2/sites-enabled/zz-fanout.conf";
    head.host.write(
        "/etc/apache2/sites-enabled/own.conf",
        "NoSuchDirective on\n",
    );
    let setup = || {
        head.host
            .run(&["fanout", "setup", "server", "web1", "--yes"])
    };
    let said = setup().exits(1).error_text();
    assert!(said.contains("NoSuchDirective"), "{said}");
    assert!(!head.has(own));
    head.host
        .sh("rm /etc/apache2/sites-enabled/own.conf")
        .success();
    setup().success();
    assert!(head.has(own));
    let facts = head.facts();
    let apache = facts.apache.unwrap();
    assert!(apache.is_included);
    assert!(
        apache.modules.iter().any(|it| it == "proxy_fcgi_module"),
        "{apache:?}"
    );
}

#[test]
fn a_server_of_a_balancer_is_prepared_beside_what_balances_there_already() {
    let Some(head) = head("apache") else { return };
    let own = "/etc/haproxy/haproxy.cfg";
    let unit = "/etc/systemd/system/haproxy.service.d/fanout.conf";
    // Somebody's own site is balanced there.
    head.host
        .sh(&format!(
            "printf '\\nfrontend own\\n  bind :8099\\n  http-request return status 200 \
             content-type text/plain string own\\n' >>{own}"
        ))
        .success();
    let before = head.host.sh(OWN_FILES).text();
    let fanout = |words: &[&str]| head.host.run(&[&["fanout"][..], words].concat());
    let setup = |option: &str| fanout(&["setup", "server", "web1", option]);
    fanout(&[
        "add",
        "balancer",
        "edge",
        "--servers",
        "web1",
        "--kind",
        "haproxy",
        "--http",
        "8080",
        "--https",
        "8443",
    ])
    .success();
    let printed = setup("--print").success().text();
    assert!(
        printed.contains(unit) && printed.contains("restart haproxy"),
        "{printed}"
    );
    let plan = setup("--dry-run").success().text();
    assert!(
        plan.contains("+ write /etc/systemd") && plan.contains("! restart"),
        "{plan}"
    );
    assert!(!head.has(unit));

    // What is broken already stays as it is, and is said.
    head.host
        .sh(&format!("cp {own} /root/ && echo nonsense >>{own}"))
        .success();
    let said = setup("--yes").exits(1).error_text();
    assert!(
        said.contains("nonsense") && said.contains("FX0711"),
        "{said}"
    );
    assert!(!head.has(unit));
    head.host
        .sh(&format!("cp /root/haproxy.cfg {own}"))
        .success();
    let done = setup("--yes").success().error_text();
    assert!(
        done.contains("left to you") && done.contains("restart haproxy"),
        "{done}"
    );
    assert_eq!(head.host.sh(OWN_FILES).text(), before);

    // As Debian's service starts it: both are served, and fanout's socket is there.
    let started = head.host.sh(&format!(
        "mkdir -p /run/haproxy
         options=$(sed -n 's/^Environment=\"EXTRAOPTS=\\(.*\\)\"$/\\1/p' {unit})
         haproxy -W -D -f {own} -p /run/haproxy.pid $options"
    ));
    started.success();
    assert!(head.waits_for(
        |head| head.curl("http://127.0.0.1:8099/").contains("own 200")
            || head.curl("http://127.0.0.1:8099/").starts_with("own")
    ));
    assert!(head.facts().haproxy.unwrap().is_included);
    let again = setup("--yes").success().error_text();
    assert!(
        again.contains("Nothing to do") && !again.contains("left to you"),
        "{again}"
    );

    // The administrator's own options can't be added to by a line of ours: that is said.
    head.host
        .sh(&format!(
            "rm {unit} && echo 'EXTRAOPTS=\"-de\"' >>/etc/default/haproxy"
        ))
        .success();
    let said = setup("--yes").exits(1).error_text();
    assert!(
        said.contains("/etc/default/haproxy") && said.contains("current/haproxy"),
        "{said}"
    );

    // nginx balances beside an apache.
    fanout(&["remove", "balancer", "edge"]).success();
    fanout(&[
        "add",
        "balancer",
        "edge",
        "--servers",
        "web1",
        "--kind",
        "nginx",
        "--http",
        "8080",
        "--https",
        "8443",
    ])
    .success();
    let printed = setup("--print").success().text();
    assert!(
        printed.contains("nginx-balancer/*.conf") && printed.contains("apache2"),
        "{printed}"
    );
    setup("--yes").success();
    assert!(head.facts().nginx.unwrap().is_included);
}
