//! A home as Aegir lays it out, and the inventory that comes of it.

use super::*;
use crate::config::Inventory;
use crate::model::{SiteTls, WebKind};
use std::fs;

/// A self-signed certificate isn't checked here; its form is.
const OWN: &str = "-----BEGIN CERTIFICATE-----\nb3du\n-----END CERTIFICATE-----\n";
const CHAIN: &str = "-----BEGIN CERTIFICATE-----\nY2hhaW4=\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\na2V5\n-----END PRIVATE KEY-----\n";

struct Home(tempfile::TempDir);

impl Home {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// An alias as Drush's `var_export` writes it.
    fn alias(&self, name: &str, properties: &str) {
        self.write(
            &format!(".drush/{name}.alias.drushrc.php"),
            &format!("<?php \n$aliases['{name}'] = array (\n{properties}\n);\n"),
        );
    }

    fn server(&self, name: &str, properties: &str) {
        self.alias(
            name,
            &format!(
                "  'context_type' => 'server',\n  'aegir_root' => '/var/aegir',\n  \
                 'script_user' => 'aegir',\n  'web_group' => 'www-data',\n{properties}"
            ),
        );
    }

    fn site(&self, uri: &str, platform: &str, more: &str) {
        self.alias(
            uri,
            &format!(
                "  'context_type' => 'site',\n  'platform' => '@platform_{platform}',\n  \
                 'server' => '@server_master',\n  'db_server' => '@server_db1examplecom',\n  \
                 'uri' => '{uri}',\n  'root' => '/var/aegir/platforms/{platform}',\n  \
                 'site_path' => '/var/aegir/platforms/{platform}/sites/{uri}',\n  \
                 'site_enabled' => true,\n  'language' => 'en',\n  'client_name' => 'admin',\n  \
                 'profile' => 'standard',\n{more}"
            ),
        );
    }

    fn credentials(&self, platform: &str, uri: &str, name: &str, password: &str) {
        self.write(
            &format!("platforms/{platform}/sites/{uri}/drushrc.php"),
            &format!(
                "<?php \n\n\n$options['db_type'] = 'mysql';\n$options['db_host'] = 'db1.example.com';\n\
                 $options['db_user'] = '{name}';\n$options['db_passwd'] = '{password}';\n\
                 $options['db_name'] = '{name}';\n\n# Aegir additions\n\
                 $_SERVER['db_type'] = $options['db_type'];\n\
                 # Local non-aegir-generated additions.\n@include_once('local.drushrc.php');\n"
            ),
        );
    }
}

/// Two web servers in a cluster, a database server, a pack, and the hub with its front end.
fn home() -> Home {
    let home = Home(tempfile::tempdir().unwrap());
    home.server(
        "server_master",
        "  'remote_host' => 'aegir.example.com',\n  'http_service_type' => 'apache',\n  \
         'http_port' => '80',\n  'master_url' => 'http://aegir.example.com/',",
    );
    home.server(
        "server_localhost",
        "  'remote_host' => 'localhost',\n  'db_service_type' => 'mysql',\n  'db_port' => '3306',",
    );
    for name in ["web1", "web2"] {
        home.server(
            &format!("server_{name}examplecom"),
            &format!(
                "  'remote_host' => '{name}.example.com',\n  'http_service_type' => 'nginx_ssl',\n  \
                 'http_port' => 8080,\n  'http_ssl_port' => '443',\n  \
                 'ip_addresses' => \n  array (\n    0 => '10.0.0.1{}',\n  ),",
                &name[3..]
            ),
        );
    }
    home.server(
        "server_web3examplecom",
        "  'remote_host' => 'web3.example.com',\n  'http_service_type' => 'apache',",
    );
    home.server(
        "server_db1examplecom",
        "  'remote_host' => 'db1.example.com',\n  'db_service_type' => 'mysql',\n  'db_port' => '3306',\n  \
         'master_db' => 'mysql://aegir_root:pa%40ss%2Fword@db1.example.com',",
    );
    home.server(
        "server_clusterexamplecom",
        "  'remote_host' => 'cluster.example.com',\n  'http_service_type' => 'cluster',\n  \
         'cluster_web_servers' => \n  array (\n    0 => '@server_web1examplecom',\n    \
         1 => '@server_web2examplecom',\n  ),",
    );
    home.server(
        "server_packexamplecom",
        "  'remote_host' => 'pack.example.com',\n  'http_service_type' => 'pack',\n  \
         'master_web_servers' => \n  array (\n    0 => '@server_web1examplecom',\n  ),\n  \
         'slave_web_servers' => \n  array (\n    0 => '@server_web3examplecom',\n  ),",
    );
    for (name, server) in [("drupal7", "cluster"), ("shared", "pack")] {
        home.alias(
            &format!("platform_{name}"),
            &format!(
                "  'context_type' => 'platform',\n  'server' => '@server_master',\n  \
                 'web_server' => '@server_{server}examplecom',\n  'root' => '/var/aegir/platforms/{name}',\n  \
                 'makefile' => '',"
            ),
        );
        home.write(&format!("platforms/{name}/index.php"), "<?php\n");
    }
    home.alias(
        "platform_hostmaster7x3180",
        "  'context_type' => 'platform',\n  'web_server' => '@server_master',\n  'root' => '/var/aegir/hostmaster-7.x-3.180',",
    );
    home.alias(
        "hostmaster",
        "  'context_type' => 'site',\n  'platform' => '@platform_hostmaster7x3180',\n  \
         'db_server' => '@server_localhost',\n  'uri' => 'aegir.example.com',\n  'profile' => 'hostmaster',",
    );
    home.site(
        "www.example.com",
        "drupal7",
        "  'aliases' => \n  array (\n    0 => 'example.com',\n    1 => 'shop.example.com',\n  ),\n  \
         'redirection' => 'www.example.com',\n  'ssl_enabled' => '2',\n  'ssl_key' => 'example',",
    );
    home.credentials(
        "drupal7",
        "www.example.com",
        "wwwexamplecom",
        "it\\'s4secret",
    );
    for (name, text) in [("crt", OWN), ("key", KEY)] {
        home.write(&format!("config/ssl.d/example/openssl.{name}"), text);
    }
    home.write("config/ssl.d/example/openssl_chain.crt", CHAIN);
    // Redirected to an alias; its credentials are in the vhost alone.
    home.site(
        "old.example.org",
        "drupal7",
        "  'aliases' => \n  array (\n    0 => 'new.example.org',\n  ),\n  \
         'redirection' => 'new.example.org',\n  'client_name' => 'ann',",
    );
    home.write(
        "config/server_web1examplecom/nginx/vhost.d/old.example.org",
        "server {\n  fastcgi_param db_name   oldexampleorg;\n  fastcgi_param db_user   oldexampleorg;\n  \
         fastcgi_param db_passwd  vhostsecret;\n}\n",
    );
    home.write(
        "config/server_web1examplecom/nginx/vhost.d/by-hand.example.net",
        "server {}\n",
    );
    home.write(
        "config/server_web1examplecom/nginx/post.d/redirects.conf",
        "# mine\n",
    );
    home
}

fn import(home: &Home) -> CarriedOver {
    carry_over(home.path(), "aegir", Path::new("/etc/fanout/certificates")).unwrap()
}

fn secret<'c>(carried: &'c CarriedOver, name: &str) -> &'c str {
    let found = carried.secrets.iter().find(|(it, _)| it.as_str() == name);
    found
        .unwrap_or_else(|| panic!("no secret {name}"))
        .1
        .expose()
}

#[test]
fn a_home_of_aegirs_becomes_an_inventory_without_faults() {
    let home = home();
    let carried = import(&home);
    let found = Inventory::parse(&carried.text, "fanout.toml")
        .unwrap_or_else(|error| panic!("{error}\n\n{}", carried.text));
    let servers: Vec<&str> = found.servers.keys().map(ServerName::as_str).collect();
    assert_eq!(servers, ["db1", "web1", "web2", "web3"]);
    let web1 = found.server("web1").unwrap();
    assert_eq!(web1.address.host(), "web1.example.com");
    assert_eq!(web1.addresses, ["10.0.0.11".parse::<IpAddr>().unwrap()]);
    let web = web1.web.as_ref().unwrap();
    assert_eq!(
        (web.kind, web.http, web.https),
        (WebKind::NginxSsl, 8080, 443)
    );
    let db = found.server("db1").unwrap().db.clone().unwrap();
    assert_eq!((db.admin_user.as_str(), db.port), ("aegir_root", 3306));
    assert_eq!(secret(&carried, "db1-admin"), "pa@ss/word");
    let members: Vec<&str> = found
        .cluster("cluster")
        .unwrap()
        .members
        .iter()
        .map(|m| m.as_str())
        .collect();
    assert_eq!(members, ["web1", "web2"]);
    let drupal = found.platform("drupal7").unwrap();
    assert_eq!(drupal.on.to_string(), "cluster");
    assert_eq!(drupal.root.as_str(), "/var/aegir/platforms/drupal7");
    assert_eq!(drupal.path.as_path(), home.path().join("platforms/drupal7"));
    assert_eq!(drupal.layout, crate::model::Layout::InPlace);
}

#[test]
fn a_site_comes_with_its_database_aliases_redirection_and_certificate() {
    let carried = import(&home());
    let found = Inventory::parse(&carried.text, "fanout.toml").unwrap();
    let www = found.site("www.example.com").unwrap();
    let aliases: Vec<&str> = www.aliases.iter().map(SiteUri::as_str).collect();
    assert_eq!(aliases, ["example.com", "shop.example.com"]);
    assert!(www.redirect_aliases);
    assert_eq!(
        (www.tls, www.dir.as_deref()),
        (SiteTls::Required, Some("www.example.com"))
    );
    assert_eq!(www.db.as_ref().unwrap().as_str(), "db1");
    assert_eq!(
        www.key.as_ref().unwrap().to_string(),
        "secret:site.www.example.com.tls-key"
    );
    assert_eq!(secret(&carried, "site.www.example.com.tls-key"), KEY);
    let certificate = www.certificate.as_ref().unwrap().as_str();
    assert_eq!(certificate, "/etc/fanout/certificates/www.example.com.pem");
    let together = format!("{}\n{}\n", OWN.trim(), CHAIN.trim());
    assert_eq!(
        carried.certificates,
        [("www.example.com.pem".to_owned(), together)]
    );
    // What Aegir redirected to is the address now.
    assert!(found.site("old.example.org").is_err());
    let new = found.site("new.example.org").unwrap();
    assert_eq!(new.aliases[0].as_str(), "old.example.org");
    assert_eq!(new.dir.as_deref(), Some("old.example.org"));
    let databases = carried.databases.iter();
    let databases: Vec<_> = databases
        .map(|it| (it.site.as_str(), it.name.as_str(), it.password.expose()))
        .collect();
    assert_eq!(
        databases,
        [
            ("new.example.org", "oldexampleorg", "vhostsecret"),
            ("www.example.com", "wwwexamplecom", "it's4secret"),
        ]
    );
}

#[test]
fn what_is_not_carried_over_is_named_in_the_file_and_in_the_summary() {
    let home = home();
    home.write(
        ".drush/broken.alias.drushrc.php",
        "<?php\n$aliases['x'] = array(\n  'a' => system('id'),\n);\n",
    );
    home.site("BAD_name", "drupal7", "");
    let carried = import(&home);
    for words in [
        "that it is a pack",
        "its slaves (web3)",
        "Aegir's own front end",
        "its client ann",
        "by-hand.example.net",
        "post.d/redirects.conf",
        "broken.alias.drushrc.php: Line 3",
        "site BAD_name: its address",
    ] {
        let said = carried.left.iter().any(|line| line.contains(words));
        assert!(said, "{words}: {:#?}", carried.left);
    }
    let comments: String = carried
        .text
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .collect::<Vec<_>>()
        .join(" ");
    for line in &carried.left {
        let words = line.split_once(": ").unwrap().1;
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(comments.contains(&words), "{words}\n{}", carried.text);
    }
    assert!(!carried.text.contains("hostmaster7x3180]"));
}

/// The whole file, so that a change of its words is seen.
#[test]
fn the_file_reads_like_one_that_somebody_wrote() {
    let home = home();
    let carried = import(&home);
    let text = carried
        .text
        .replace(&home.path().display().to_string(), "HOME");
    // Where a comment is wrapped depends on how long the directory's name is.
    insta::assert_snapshot!(text.replace("\n# ", " "));
}

#[test]
fn no_secret_is_written_down() {
    let carried = import(&home());
    assert_eq!((carried.secrets.len(), carried.databases.len()), (2, 2));
    let passwords = carried.databases.iter();
    let passwords = passwords.map(|it| (it.name.clone(), &it.password));
    let secrets = carried.secrets.iter();
    let secrets = secrets.map(|(name, it)| (name.to_string(), it));
    for (name, secret) in secrets.chain(passwords) {
        assert!(!carried.text.contains(secret.expose()), "{name}");
        assert!(
            !carried
                .left
                .iter()
                .any(|line| line.contains(secret.expose())),
            "{name}"
        );
    }
    assert!(!carried.text.contains("pa%40ss"));
}

#[test]
fn nothing_below_the_home_changes() {
    let home = home();
    let list = || -> Vec<_> {
        let files = walkdir::WalkDir::new(home.path()).sort_by_file_name();
        files
            .into_iter()
            .map(|entry| {
                let entry = entry.unwrap();
                let found = entry.metadata().unwrap();
                (
                    entry.path().to_owned(),
                    found.len(),
                    found.modified().unwrap(),
                )
            })
            .collect()
    };
    let before = list();
    import(&home);
    assert_eq!(list(), before);
}

#[test]
fn a_directory_without_contexts_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    let error = carry_over(empty.path(), "x", Path::new("/c"))
        .err()
        .unwrap();
    assert!(matches!(error, AegirError::NotAegir { .. }));
    fs::create_dir(empty.path().join(".drush")).unwrap();
    let error = carry_over(empty.path(), "x", Path::new("/c"))
        .err()
        .unwrap();
    assert!(matches!(error, AegirError::NoContexts { .. }));
}
