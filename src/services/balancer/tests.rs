//! Rendered for small inventories, and given to the programs that read it, where they are installed.

use super::*;
use crate::config::{Cluster, On, Platform, Site, Web};
use crate::model::{
    BalancerTls, CommitPolicy, Layout, OwnerPolicy, ResyncMode, SiteTls, Transport, Uploads,
    WebKind,
};
use std::path::Path;
use std::process::Command;
use sync_proto::wire::service::ProgramFacts;

const PEM: &str = "-----BEGIN CERTIFICATE-----";

fn server(name: &str, address: &str) -> crate::config::Server {
    crate::config::Server {
        name: name.parse().unwrap(),
        address: "agent.internal".parse().unwrap(),
        addresses: vec![address.parse().unwrap()],
        labels: Vec::new(),
        transport: Transport::Auto,
        ssh: None,
        web: Some(Web::new(WebKind::Nginx)),
        db: None,
    }
}

fn site(uri: &str, platform: &str) -> Site {
    Site {
        uri: uri.parse().unwrap(),
        platform: platform.parse().unwrap(),
        dir: None,
        db: None,
        aliases: Vec::new(),
        redirect_aliases: false,
        redirects: BTreeMap::new(),
        tls: SiteTls::Off,
        certificate: None,
        key: None,
        hsts_s: None,
        uploads: None,
        user: None,
        upload_mib: 64,
        auth: None,
        title: None,
        mail: None,
        cron: false,
    }
}

fn platform(name: &str, app: Option<crate::model::AppKind>) -> Platform {
    Platform {
        name: name.parse().unwrap(),
        on: On::Cluster("front".parse().unwrap()),
        path: "/srv/src".parse().unwrap(),
        root: "/srv/web".parse().unwrap(),
        layout: Layout::InPlace,
        owner: OwnerPolicy::Keep,
        numeric_ids: false,
        dirs: None,
        files: None,
        exclude: Vec::new(),
        preserve: Vec::new(),
        seed: false,
        delete_excluded: false,
        keep: 3,
        resync: ResyncMode::Repair,
        follow: false,
        require: Vec::new(),
        drift_ignore: Vec::new(),
        privileged_xattrs: false,
        special_files: Vec::new(),
        app,
        docroot: sync_proto::path::RelPath::root(),
        php: None,
    }
}

fn balancer(kind: BalancerKind, tls: BalancerTls) -> Balancer {
    Balancer {
        name: "edge".parse().unwrap(),
        servers: vec!["lb1".parse().unwrap()],
        kind,
        tls,
        http: 8080,
        https: 8443,
        drain_timeout_s: 30,
    }
}

fn inventory(balancer: &Balancer, sites: Vec<Site>) -> Inventory {
    let servers = [
        server("web1", "10.0.0.11"),
        server("web2", "10.0.0.12"),
        server("web3", "2001:db8::13"),
    ];
    let cluster = Cluster {
        name: "front".parse().unwrap(),
        members: servers.iter().map(|it| it.name.clone()).collect(),
        commit: CommitPolicy::default(),
        min_healthy: 1,
        balancer: Some(balancer.name.clone()),
    };
    let wordpress = platform("blog", Some(crate::model::AppKind::Wordpress));
    Inventory {
        hub: "hub".into(),
        depot_budget: "1GiB".parse().unwrap(),
        servers: servers.map(|it| (it.name.clone(), it)).into(),
        clusters: [(cluster.name.clone(), cluster)].into(),
        balancers: [(balancer.name.clone(), balancer.clone())].into(),
        platforms: [(wordpress.name.clone(), wordpress)].into(),
        sites: sites.into_iter().map(|it| (it.uri.clone(), it)).collect(),
    }
}

fn text(files: &[ConfigFile], area: ConfigArea) -> String {
    let is_it = |file: &&ConfigFile| file.area == area && !file.name.starts_with("00-");
    let file = files.iter().find(is_it).unwrap();
    match &file.content {
        Content::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        Content::Same(_) => panic!("bytes"),
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "what is rendered is read by the real program"
)]
/// Renders for a real directory, puts the files there, and has the program read them.
fn proved(inventory: &Inventory, balancer: &Balancer, out: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let (root, data) = (at("live"), at("data"));
    at("live/keys");
    at("data/haproxy");
    let facts = ServiceFacts {
        config_root: root.to_str().unwrap().into(),
        data_root: data.to_str().unwrap().into(),
        nginx: Some(ProgramFacts {
            modules: vec!["http_stub_status_module".into()],
            ..ProgramFacts::default()
        }),
        ..ServiceFacts::default()
    };
    let key = rcgen::generate_simple_self_signed(vec!["www.example.com".into()]).unwrap();
    let pem = format!("{}{}", key.cert.pem(), key.signing_key.serialize_pem());
    assert!(pem.starts_with(PEM));
    let uris = inventory.sites.keys();
    let ingredients = Ingredients {
        facts: &facts,
        bundles: &uris
            .map(|uri| (uri.clone(), pem.clone().into_bytes()))
            .collect(),
        out: &out.iter().map(|name| name.parse().unwrap()).collect(),
    };
    let files = render(inventory, balancer, &ingredients);
    for file in &files {
        let folder = match file.area {
            ConfigArea::Keys => "live/keys",
            _ => "live",
        };
        let Content::Bytes(bytes) = &file.content else {
            panic!("bytes")
        };
        std::fs::write(dir.path().join(folder).join(&file.name), bytes).unwrap();
    }
    let (area, command) = match balancer.kind {
        BalancerKind::Haproxy => (
            ConfigArea::Haproxy,
            vec![
                "haproxy".into(),
                "-c".into(),
                "-f".into(),
                path(&root, HAPROXY_FILE),
            ],
        ),
        _ => {
            std::fs::write(root.join("nginx.generation"), "return 200 x;\n").unwrap();
            let main = format!(
                "pid {0}/nginx.pid; error_log {0}/error.log; events {{}} http {{ access_log off; \
                 include {0}/*.conf; }}",
                root.display()
            );
            std::fs::write(root.join("main.nginx"), main).unwrap();
            let main = path(&root, "main.nginx");
            (
                ConfigArea::NginxBalancer,
                vec!["nginx".into(), "-t".into(), "-c".into(), main],
            )
        }
    };
    let text = text(&files, area);
    match Command::new(&command[0]).args(&command[1..]).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{said}\n{text}");
            assert!(!said.contains("conflicting"), "{said}\n{text}");
        }
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
    }
    text
}

fn path(root: &Path, name: &str) -> String {
    root.join(name).to_str().unwrap().to_owned()
}

#[test]
fn haproxy_reads_what_is_rendered_for_it() {
    let edge = balancer(BalancerKind::Haproxy, BalancerTls::Terminate);
    let mut required = site("www.example.com", "blog");
    required.tls = SiteTls::Required;
    required.aliases = vec!["example.com".parse().unwrap()];
    required.uploads = Some(Uploads::Pin("web2".parse().unwrap()));
    let plain = site("plain.example.com/shop", "blog");
    let text = proved(&inventory(&edge, vec![required, plain]), &edge, &[]);
    assert!(
        text.contains("server web1 10.0.0.11:80 port 4680\n"),
        "{text}"
    );
    assert!(
        text.contains("server web3 [2001:db8::13]:80 port 4680\n"),
        "{text}"
    );
    assert!(
        text.contains("http-check send meth GET uri /fpm-ping"),
        "{text}"
    );
    assert!(
        text.contains("acl host_1 var(txn.host) -m str example.com\n"),
        "{text}"
    );
}

#[test]
fn what_is_pinned_has_one_member_and_the_others_only_in_its_absence() {
    let edge = balancer(BalancerKind::Haproxy, BalancerTls::Terminate);
    let mut pinned = site("www.example.com", "blog");
    pinned.uploads = Some(Uploads::Pin("web2".parse().unwrap()));
    let text = proved(&inventory(&edge, vec![pinned]), &edge, &[]);
    let (_, pinned) = text.split_once("\nbackend front:web2\n").unwrap();
    assert!(
        pinned.contains("server web1 10.0.0.11:80 port 4680 backup\n"),
        "{text}"
    );
    assert!(
        pinned.contains("server web2 10.0.0.12:80 port 4680\n"),
        "{text}"
    );
    assert!(
        text.contains("use_backend front:web2 if host_0 is_write\n"),
        "{text}"
    );
    assert!(text.contains("acl admin_0 path_beg /wp-admin\n"), "{text}");
    assert!(pinned.contains("option http-server-close"), "{text}");
}

#[test]
fn tls_that_is_passed_through_goes_by_the_name_in_the_greeting() {
    let edge = balancer(BalancerKind::Haproxy, BalancerTls::Passthrough);
    let mut secure = site("www.example.com", "blog");
    secure.tls = SiteTls::Required;
    let text = proved(&inventory(&edge, vec![secure]), &edge, &[]);
    assert!(
        text.contains("use_backend front:tls if { req.ssl_sni -i www.example.com }"),
        "{text}"
    );
    assert!(
        text.contains("server web1 10.0.0.11:443 port 4680\n"),
        "{text}"
    );
    assert!(!text.contains(" crt "), "the balancer has no key: {text}");
}

#[test]
fn nginx_reads_what_is_rendered_for_it() {
    let edge = balancer(BalancerKind::Nginx, BalancerTls::Terminate);
    let mut required = site("www.example.com", "blog");
    required.tls = SiteTls::Required;
    required.uploads = Some(Uploads::Pin("web2".parse().unwrap()));
    let mut shop = site("www.example.com/shop", "blog");
    shop.tls = SiteTls::Optional;
    let plain = site("plain.example.com", "blog");
    let text = proved(
        &inventory(&edge, vec![required, shop, plain]),
        &edge,
        &["web1"],
    );
    assert!(
        text.contains("server 10.0.0.11:80 max_fails=1 fail_timeout=2s down; # web1\n"),
        "{text}"
    );
    assert!(
        text.contains("server 10.0.0.12:80 max_fails=1 fail_timeout=2s; # web2\n"),
        "{text}"
    );
}

#[test]
fn an_nginx_that_can_say_what_is_idle_ends_connections_before_it_is_reloaded() {
    let edge = balancer(BalancerKind::Nginx, BalancerTls::Terminate);
    let mut pinned = site("www.example.com", "blog");
    pinned.uploads = Some(Uploads::Pin("web2".parse().unwrap()));
    let text = proved(&inventory(&edge, vec![pinned]), &edge, &[]);
    let (_, closing) = text.split_once("location @closing_0 {\n").unwrap();
    assert!(
        closing.starts_with("        keepalive_timeout 0;\n"),
        "{text}"
    );
    assert!(
        closing.contains("proxy_pass http://$fanout_site_0;"),
        "{text}"
    );
    assert!(
        text.contains("/data/closing\") {\n            return 418;"),
        "{text}"
    );
}

#[test]
fn a_member_is_marked_in_the_file_that_is_there_and_nothing_else_changes() {
    let edge = balancer(BalancerKind::Nginx, BalancerTls::Terminate);
    let before = proved(
        &inventory(&edge, vec![site("a.example.com", "blog")]),
        &edge,
        &[],
    );
    let web1 = "web1".parse().unwrap();
    assert_eq!(marked_down(&before, &web1), Some(false));
    let marked = mark_down(&before, std::slice::from_ref(&web1), true);
    assert_eq!(marked_down(&marked, &web1), Some(true));
    assert_eq!(marked_down(&marked, &"web2".parse().unwrap()), Some(false));
    assert_eq!(marked_down(&marked, &"web9".parse().unwrap()), None);
    assert_eq!(mark_down(&marked, &[web1], false), before);
}

#[test]
fn what_cannot_be_balanced_is_named_with_its_setting() {
    let edge = balancer(BalancerKind::Nginx, BalancerTls::Passthrough);
    let mut pinned = site("www.example.com", "blog");
    pinned.uploads = Some(Uploads::Pin("web2".parse().unwrap()));
    let mut inventory = inventory(&edge, vec![pinned]);
    for server in inventory.servers.values_mut().take(1) {
        server.web = None;
    }
    let problems = check(&inventory, &edge);
    let said: Vec<&str> = problems.iter().map(|it| it.message.as_str()).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("passes no TLS"), "{said:?}");
    assert!(
        said[1].contains("web1") && said[1].contains("serves no web"),
        "{said:?}"
    );
    assert!(said[2].contains("pinned"), "{said:?}");
}

#[test]
fn the_table_of_statistics_is_read_by_the_names_of_its_columns() {
    let table = "# pxname,svname,qcur,scur,stot,status,hrsp_5xx,check_status,check_desc,\n\
        visitors,FRONTEND,,3,9,OPEN,,,,\n\
        front,web1,1,2,7,UP,4,L7OK,\"fine, \"\"really\"\"\",\n\
        front,web2,0,0,0,DRAIN,,,,\nfront,web3,0,0,0,DOWN 1/2,,L4CON,,\n\
        front,web4,0,0,0,MAINT (via front/web1),,,,\nfront,BACKEND,0,2,7,UP,,,,\n\n";
    let members = stats::members(table).unwrap();
    let names: Vec<&str> = members.iter().map(|it| it.member.as_str()).collect();
    assert_eq!(names, ["web1", "web2", "web3", "web4"]);
    use sync_proto::wire::service::Rotation::{Drain, Maintenance, Ready};
    let told: Vec<_> = members.iter().map(|it| it.rotation).collect();
    assert_eq!(told, [Ready, Drain, Ready, Maintenance]);
    let up: Vec<_> = members.iter().map(|it| it.is_up).collect();
    assert_eq!(up, [true, true, false, false]);
    assert_eq!(
        (members[0].sessions, members[0].queued, members[0].failures),
        (2, 1, 4)
    );
    assert_eq!(members[0].check, "L7OK fine, \"really\"");
    assert!(stats::members("Unknown command").is_err());
    // One that is drained and fails its checks is `DOWN` in that table.
    let told = stats::told(
        "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state\n\
         4 front 1 web1 10.0.0.1 0 8\n4 front 2 web2 10.0.0.2 2 0\n4 front 3 web3 - 0 1\n",
    );
    let told: Vec<_> = told.into_values().collect();
    assert_eq!(told, [Drain, Ready, Maintenance]);
}
