//! From the inventory to the databases of its sites: which servers, which members, which
//! passwords.

use super::{Built, Request};
use crate::cli::Context;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, config_error, invalid, secret_error, store_error};
use crate::codes::{Code, Problem};
use crate::config::{Secrets, Server, Site};
use crate::model::{DbVia, ServerName, SiteUri};
use crate::orchestrate::databases::DatabaseServer;
use crate::orchestrate::fates::Fates;
use crate::orchestrate::resources::database::{Database, DatabaseMember, Part};
use crate::orchestrate::resources::former_database::FormerDatabase;
use crate::orchestrate::servers::Servers;
use crate::orchestrate::{NodeId, Phase, Place};
use crate::services::app::SiteDatabase;
use crate::services::database::{Names, Password};
use crate::store::Generator;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The database servers of an inventory.
pub(crate) struct Databases {
    servers: BTreeMap<ServerName, Arc<DatabaseServer>>,
    secrets: Secrets,
    /// Former members that serve a site until their removal is allowed.
    staying: BTreeMap<SiteUri, BTreeSet<ServerName>>,
}

impl Databases {
    /// The database servers that sites use or used.
    ///
    /// # Errors
    /// The password of an administration account can't be found.
    pub(crate) async fn open(
        context: &Context,
        hub: &Hub,
        servers: &Arc<Servers>,
    ) -> Result<Self, CommandError> {
        let secrets = Secrets::new(&hub.dir, context.ui.is_interactive());
        let mut opened = BTreeMap::new();
        for server in hub.inventory.servers.values().filter(|it| it.db.is_some()) {
            let is_used = |site: &Site| site.db.as_ref() == Some(&server.name);
            let former = hub.store.site_databases(&server.name).await;
            let is_idle = former.map_err(store_error)?.is_empty();
            if is_idle && !hub.inventory.sites.values().any(is_used) {
                continue;
            }
            let password = admin_password(&secrets, server).await?;
            let database = DatabaseServer::new(
                servers.clone(),
                hub.store.clone(),
                hub.clock.clone(),
                server,
                password,
            )?;
            opened.insert(server.name.clone(), Arc::new(database));
        }
        Ok(Self {
            servers: opened,
            secrets,
            staying: BTreeMap::new(),
        })
    }

    /// Former members keep their accounts as long as they serve a site.
    #[must_use]
    pub(crate) fn with_staying(mut self, staying: BTreeMap<SiteUri, BTreeSet<ServerName>>) -> Self {
        self.staying = staying;
        self
    }

    /// How a site reaches its database, for its settings; nothing if it has none.
    ///
    /// # Errors
    /// Its password can't be read or made.
    pub(crate) async fn access(&self, site: &Site) -> Result<Option<SiteDatabase>, CommandError> {
        let Some(server) = self.server(site) else {
            return Ok(None);
        };
        let names = Database::names(server, &site.uri).await?;
        Ok(Some(SiteDatabase {
            host: server.host().to_owned(),
            port: server.db.port,
            name: names.database.to_string(),
            user: names.user.to_string(),
            password: self.password(&names)?.as_str().to_owned(),
        }))
    }

    fn server(&self, site: &Site) -> Option<&Arc<DatabaseServer>> {
        self.servers.get(site.db.as_ref()?)
    }

    /// The password of a site's accounts; made if there is none.
    fn password(&self, names: &Names) -> Result<Password, CommandError> {
        let name = names.secret().map_err(|error| invalid(Code::Bug, &error))?;
        let kept = self.secrets.store().ensure(&name, Generator::Password);
        let kept = kept.map_err(|error| secret_error(&error.into()))?;
        parsed(kept.expose())
    }

    /// The database of a site as one part of the work; nothing if it has none.
    ///
    /// # Errors
    /// As [`Databases::access`].
    pub(crate) async fn of_site(
        &self,
        hub: &Hub,
        request: &Request,
        site: &Site,
        part: Part,
    ) -> Result<Option<Database>, CommandError> {
        let (Some(server), Some(access)) = (self.server(site), self.access(site).await?) else {
            return Ok(None);
        };
        let platform = hub
            .inventory
            .platform(site.platform.as_str())
            .map_err(config_error)?;
        let staying = self.staying.get(&site.uri);
        let staying = staying.into_iter().flatten();
        let staying = staying.filter_map(|name| hub.inventory.servers.get(name));
        let members = hub.inventory.members(platform).into_iter().chain(staying);
        // Whoever is gone for good comes from nowhere any more.
        let members = members.filter(|member| !request.is_gone(&member.name));
        Ok(Some(Database {
            server: server.clone(),
            site: site.uri.clone(),
            password: parsed(&access.password)?,
            members: members
                .map(|member| DatabaseMember {
                    name: member.name.clone(),
                    declared: member.addresses.clone(),
                    is_gone: false,
                })
                .collect(),
            part,
            prune: request.prune,
        }))
    }

    /// Adds the database of every site to the graph: what they need, before anything that needs
    /// it.
    ///
    /// # Errors
    /// As [`Databases::access`].
    pub(crate) async fn make(
        &self,
        hub: &Hub,
        request: &Request,
        fates: &Fates,
        built: &mut Built,
    ) -> Result<BTreeMap<SiteUri, NodeId>, CommandError> {
        let mut nodes = BTreeMap::new();
        for site in hub.inventory.sites.values() {
            if let Some(database) = self.of_site(hub, request, site, Part::Make).await? {
                let platform = hub.inventory.platforms.get(&site.platform);
                let place = platform.map(|it| fates.shared(it, &hub.inventory));
                let place = place.unwrap_or_default();
                let node = built.graph.add(place, Arc::new(database), &[]);
                nodes.insert(site.uri.clone(), node);
            }
        }
        Ok(nodes)
    }

    /// Adds what is taken away, after everything that still uses it: former accounts of each site,
    /// and what sites had that are not listed any more.
    ///
    /// # Errors
    /// As [`Databases::access`].
    pub(crate) async fn clean(
        &self,
        hub: &Hub,
        request: &Request,
        after: &[NodeId],
        built: &mut Built,
    ) -> Result<(), CommandError> {
        for site in hub.inventory.sites.values() {
            if let Some(database) = self.of_site(hub, request, site, Part::Clean).await? {
                built.graph.add(settled(), Arc::new(database), after);
            }
        }
        for server in self.servers.values() {
            let known = hub
                .store
                .site_databases(&server.name)
                .await
                .map_err(store_error)?;
            for former in known {
                let uri = former.site;
                let listed = hub.inventory.sites.get(&uri);
                match listed.map(|site| site.db.as_ref()) {
                    Some(Some(name)) if *name == server.name => continue,
                    // Moved or without: the accounts would be the same ones.
                    Some(other) => {
                        built.notes.push(moved(&uri, server, other));
                        continue;
                    }
                    None => {}
                }
                let names = Database::names(server, &uri).await?;
                let resource = FormerDatabase {
                    server: server.clone(),
                    password: self.password(&names)?,
                    is_allowed: request.allow_remove.iter().any(|name| name == uri.as_str()),
                    with_database: request.drop_database.iter().any(|it| it == uri.as_str()),
                    site: uri,
                };
                built.graph.add(settled(), Arc::new(resource), after);
            }
        }
        Ok(())
    }

    /// Replaces the password of a site's accounts, after all of them take the new one.
    ///
    /// # Errors
    /// The secret can't be written.
    pub(crate) fn replace_password(
        &self,
        names: &Names,
        new: &crate::model::Secret,
    ) -> Result<(), CommandError> {
        let name = names.secret().map_err(|error| invalid(Code::Bug, &error))?;
        let written = self.secrets.store().write(&name, new);
        written.map_err(|error| secret_error(&error.into()))?;
        Ok(())
    }
}

/// What is taken away comes last, and by itself.
pub(super) fn settled() -> Place {
    Place::default().within(Phase::Settle)
}

fn parsed(password: &str) -> Result<Password, CommandError> {
    password
        .parse()
        .map_err(|error| invalid(Code::SecretUnusable, &error))
}

fn moved(site: &SiteUri, server: &DatabaseServer, now: Option<&ServerName>) -> Problem {
    let now = now.map_or("no server".to_owned(), ToString::to_string);
    Problem::new(
        Code::DatabaseAddressRefused,
        format!(
            "The database of {site} is on {}, and the inventory says {now}",
            server.name
        ),
    )
    .with_hint(format!(
        "put `db = \"{}\"` back: a database isn't moved by an edit",
        server.name
    ))
}

async fn admin_password(
    secrets: &Secrets,
    server: &Server,
) -> Result<Option<String>, CommandError> {
    let Some(db) = server.db.as_ref().filter(|db| db.via == DbVia::Tcp) else {
        return Ok(None);
    };
    let Some(reference) = &db.admin else {
        return Ok(None);
    };
    let setup = format!(
        "`fanout setup db {}` makes the account and keeps its password",
        server.name
    );
    if secrets.is_missing(reference) {
        let message = format!(
            "The administration account of {} has no password yet",
            server.name
        );
        return Err(CommandError::new(Code::DatabaseAccountMissing, message).hint(setup));
    }
    let secret = secrets
        .resolve(reference)
        .await
        .map_err(|error| secret_error(&error))?;
    Ok(Some(secret.expose().to_owned()))
}
