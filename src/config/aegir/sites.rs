//! Sites, with their databases, certificates and what nobody else asked about.

use super::contexts::{Context, credentials};
use super::{CarriedDatabase, Import, tls};
use crate::config::settings::{Keys, put, put_list};
use crate::model::{Secret, SecretName, ServerName, SiteUri};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What Aegir puts below a web service's directory.
const PLACES: [&str; 5] = ["pre.d", "platform.d", "vhost.d", "subdir.d", "post.d"];

impl Import<'_> {
    pub(super) fn write_sites(&mut self) {
        let mut claimed = BTreeSet::new();
        for context in self.contexts.sites.values() {
            self.out.gap();
            self.out.comment(&format!("@{}", context.name));
            self.write_site(context, &mut claimed);
        }
    }

    fn write_site(&mut self, context: &Context, claimed: &mut BTreeSet<String>) {
        let uri = context.text("uri").unwrap_or(&context.name).to_owned();
        let what = format!("site {uri}");
        if Self::is_hostmaster(context) {
            return self.out.left(&what, "Aegir's own front end");
        }
        let platform = context.reference("platform").unwrap_or_default();
        let Some(platform_name) = self.platforms.get(platform).cloned() else {
            return self
                .out
                .left(&what, &format!("its platform @{platform} isn't there"));
        };
        if !self.written.contains(&format!("platform {platform_name}")) {
            return self.out.left(&what, "its platform isn't carried over");
        }
        let Ok(own) = uri.parse::<SiteUri>() else {
            return self.out.left(&what, "its address can't be one of fanout's");
        };
        let mut aliases: Vec<SiteUri> = Vec::new();
        for alias in context.texts("aliases") {
            match alias.parse::<SiteUri>() {
                Ok(alias) if alias.subdirectory().is_none() && alias.host() != own.host() => {
                    if !aliases.contains(&alias) {
                        aliases.push(alias);
                    }
                }
                Ok(alias) if alias == own => {}
                _ => self.out.left(&what, &format!("its alias {alias}")),
            }
        }
        // What Aegir redirects to is the site's address; what it was called becomes an alias.
        let target = context
            .text("redirection")
            .and_then(|to| to.parse::<SiteUri>().ok());
        let redirects = target.is_some();
        let mut address = own.clone();
        if let Some(target) = target.filter(|target| aliases.contains(target))
            && own.subdirectory().is_none()
        {
            self.out.comment(&format!(
                "Aegir redirects {own} to {target}, so that is the site's address here."
            ));
            aliases.retain(|alias| *alias != target);
            aliases.insert(0, own.clone());
            address = target;
        }
        if !claimed.insert(address.to_string()) {
            return self.out.left(&what, &format!("another site is {address}"));
        }
        aliases.retain(|alias| {
            let key = match address.subdirectory() {
                Some(path) => format!("{alias}/{path}"),
                None => alias.to_string(),
            };
            let is_free = claimed.insert(key);
            if !is_free {
                self.out
                    .left(&what, &format!("its alias {alias}, which another site has"));
            }
            is_free
        });
        let site_path = match context.text("site_path") {
            Some(path) => PathBuf::from(self.here(path)),
            None => {
                let root = self.contexts.platforms.get(platform);
                let root = root.and_then(|it| it.text("root")).unwrap_or_default();
                Path::new(&self.here(root)).join("sites").join(&uri)
            }
        };
        let dir = site_path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut keys: Keys = vec![
            ("platform".into(), platform_name.into()),
            ("dir".into(), dir.clone().into()),
        ];
        self.remarks(&what, context, &dir);
        if let Some(db) = self.database(&what, context, &address, &site_path, &uri) {
            keys.push(("db".into(), db.into()));
        }
        put_list(&mut keys, "aliases", &aliases);
        if redirects && !aliases.is_empty() {
            keys.push(("redirect_aliases".into(), true.into()));
        }
        self.tls(&what, context, &address, &mut keys);
        self.basic_authentication(context, &address, &mut keys);
        if self.is_on_several(platform) {
            self.out.comment(
                "Aegir let an upload lie where it arrived. A plan wants to know what becomes of them: \
                 `uploads` is pin, mount or external.",
            );
        }
        self.out.table("sites", address.as_str(), keys);
    }

    /// What a site of Aegir's has and one of fanout's hasn't.
    fn remarks(&mut self, what: &str, context: &Context, dir: &str) {
        if context
            .properties
            .get("site_enabled")
            .is_some_and(|it| !it.is_true())
        {
            self.out.left(what, "that it was disabled");
        }
        for (key, usual, words) in [
            ("client_name", "admin", "its client"),
            ("language", "en", "its language"),
            ("cron_key", "", "its cron key"),
        ] {
            if let Some(value) = context.text(key).filter(|value| *value != usual) {
                let shown = match key {
                    // It lets anybody start cron.
                    "cron_key" => String::new(),
                    _ => format!(" {value}"),
                };
                self.out.left(what, &format!("{words}{shown}"));
            }
        }
        let names = context.texts("drush_aliases");
        if !names.is_empty() {
            self.out
                .left(what, &format!("its Drush aliases {}", names.join(", ")));
        }
        if !context.texts("ip_addresses").is_empty() {
            self.out
                .left(what, "its IP addresses for TLS: names are enough (SNI)");
        }
        self.out.comment(&format!(
            "Aegir's sites/{dir}/settings.php takes the database from variables of its vhost: put \
             `require getenv('FANOUT_SETTINGS');` in the place of those lines."
        ));
    }

    /// The server of the site's database. Its access goes into the store.
    fn database(
        &mut self,
        what: &str,
        context: &Context,
        address: &SiteUri,
        site_path: &Path,
        uri: &str,
    ) -> Option<String> {
        let server = context.reference("db_server")?;
        let known = self
            .servers
            .get(server)
            .filter(|name| self.written.contains(*name));
        let Some(name) = known.and_then(|name| name.parse::<ServerName>().ok()) else {
            self.out
                .left(what, &format!("its database server @{server}"));
            return None;
        };
        let has_db = self
            .contexts
            .servers
            .get(server)
            .and_then(|it| it.text("db_service_type"));
        if has_db != Some("mysql") {
            self.out.left(
                what,
                &format!("its database: @{server} has no database server"),
            );
            return None;
        }
        let found = credentials(site_path, &self.vhosts(uri));
        match (found.name, found.user, found.password) {
            (Some(database), Some(user), Some(password)) if database == user => {
                self.out.comment(&format!("Its database is `{database}`, as it is."));
                self.databases.push(CarriedDatabase {
                    site: address.clone(),
                    server: name.clone(),
                    name: database,
                    password: Secret::new(password),
                });
            }
            (Some(database), Some(user), Some(_)) => self.out.left(
                what,
                &format!("its database `{database}` with the account `{user}`: fanout has one name for both"),
            ),
            _ => self.out.left(
                what,
                &format!("the access to its database, which is not in {}/drushrc.php", site_path.display()),
            ),
        }
        Some(name.to_string())
    }

    fn tls(&mut self, what: &str, context: &Context, address: &SiteUri, keys: &mut Keys) {
        let mode = match context.text("ssl_enabled") {
            None | Some("0") => return,
            Some("1") => "optional",
            Some(_) => "required",
        };
        let platform = context
            .reference("platform")
            .and_then(|it| self.contexts.platforms.get(it));
        let web_server = platform
            .and_then(|it| it.reference("web_server"))
            .unwrap_or("server_master");
        if !self.serves_tls(web_server, 0) {
            return self
                .out
                .left(what, "TLS: not every member's web server serves it");
        }
        keys.push(("tls".into(), mode.into()));
        let key_name = context.text("ssl_key").unwrap_or(address.host());
        let directory = self.home.join("config/ssl.d").join(key_name);
        if key_name.contains('/') || key_name.starts_with('.') {
            return self
                .out
                .left(what, &format!("its certificate `{key_name}`"));
        }
        match tls::certificate(&directory) {
            Ok(found) => {
                let file = match found.text {
                    None => directory.join(found.file),
                    Some(text) => {
                        let name = format!("{}.pem", address.file_name());
                        let path = self.certificate_dir.join(&name);
                        self.certificates.push((name, text));
                        path
                    }
                };
                let secret = SecretName::of_site("tls-key", address);
                keys.push(("certificate".into(), file.display().to_string().into()));
                keys.push(("key".into(), format!("secret:{secret}").into()));
                self.secrets.push((secret, Secret::new(found.key)));
            }
            Err(problem) => self.out.left(what, &format!("its certificate: {problem}")),
        }
    }

    fn serves_tls(&self, context_name: &str, depth: usize) -> bool {
        let Some(server) = self.contexts.servers.get(context_name) else {
            return false;
        };
        match server.text("http_service_type") {
            Some("apache_ssl" | "nginx_ssl") => true,
            Some("cluster" | "pack") if depth < 8 => {
                let lists = ["cluster_web_servers", "master_web_servers"];
                let members = lists.iter().flat_map(|key| server.references(key));
                members
                    .into_iter()
                    .all(|member| self.serves_tls(member, depth + 1))
            }
            _ => false,
        }
    }

    /// Of the module that adds it to Aegir.
    fn basic_authentication(&mut self, context: &Context, address: &SiteUri, keys: &mut Keys) {
        let user = context.text("http_basic_auth_username");
        let password = context.text("http_basic_auth_password");
        if let (Some(user), Some(password)) = (user, password) {
            let secret = SecretName::of_site("auth", address);
            put(keys, "auth", Some(&format!("secret:{secret}")));
            self.secrets
                .push((secret, Secret::new(format!("{user}:{password}"))));
        }
    }

    fn is_on_several(&self, platform: &str) -> bool {
        let platform = self.contexts.platforms.get(platform);
        let on = platform.and_then(|it| it.reference("web_server"));
        let on = on.and_then(|it| self.contexts.servers.get(it));
        on.is_some_and(|it| {
            it.references("cluster_web_servers").len() > 1
                || it.references("master_web_servers").len() > 1
        })
    }

    /// The vhosts of a site, on all servers.
    fn vhosts(&self, uri: &str) -> Vec<PathBuf> {
        let name = uri.replace('/', ".");
        let places = self.places().into_iter();
        places
            .filter(|place| place.ends_with("vhost.d") || place.ends_with("subdir.d"))
            .flat_map(|place| [place.join(uri), place.join(&name)])
            .filter(|path| path.is_file())
            .collect()
    }

    /// `config/SERVER/SERVICE/PLACE`
    fn places(&self) -> Vec<PathBuf> {
        let mut places = Vec::new();
        for server in entries(&self.home.join("config")) {
            for service in ["apache", "nginx", "apache_ssl", "nginx_ssl"] {
                places.extend(PLACES.map(|place| server.join(service).join(place)));
            }
        }
        places.retain(|place| place.is_dir());
        places
    }

    /// Configuration that no context accounts for: somebody wrote it.
    pub(super) fn write_leftovers(&mut self) {
        let mut found: Vec<PathBuf> = Vec::new();
        for place in self.places() {
            let is_by_hand = place.ends_with("pre.d") || place.ends_with("post.d");
            for file in entries(&place) {
                let name = file
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                let is_a_site = self.contexts.sites.values().any(|site| {
                    let uri = site.text("uri").unwrap_or(&site.name);
                    uri == name || uri.replace('/', ".") == name
                });
                if is_by_hand || (place.ends_with("vhost.d") && !is_a_site) {
                    found.push(file);
                }
            }
        }
        let includes = entries(&self.home.join("config/includes")).into_iter();
        let by_aegir = |file: &PathBuf| {
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            [
                "nginx_vhost_common.conf",
                "nginx_simple_include.conf",
                "nginx_advanced_include.conf",
            ]
            .contains(&name.as_str())
        };
        let is_empty = |file: &PathBuf| fs::metadata(file).is_ok_and(|it| it.len() == 0);
        found.extend(includes.filter(|file| file.is_file() && !by_aegir(file) && !is_empty(file)));
        if found.is_empty() {
            return;
        }
        self.out.gap();
        for file in found {
            let words = format!("{}, which no site or server accounts for", file.display());
            self.out.left("configuration", &words);
        }
    }
}

/// The entries of a directory, sorted; none if it can't be read.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let read = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = read.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
