//! The graph itself: which resources there are, and what comes after what.

mod configured;

use super::application::{driver, look_for_traps};
use super::bring::Resync;
use super::databases::Databases;
use super::{Request, materials, servers};
use crate::cli::Context;
use crate::cli::error::CommandError;
use crate::cli::hub::{Hub, locked, store_error};
use crate::codes::{Code, Problem};
use crate::config::{Inventory, Platform, Server, Site};
use crate::model::{ServerName, SiteUri, Uploads};
use crate::orchestrate::applications::Application;
use crate::orchestrate::desired::{self, Materials, app_site, sites_on};
use crate::orchestrate::fates::Fates;
use crate::orchestrate::resources::application::ApplicationFiles;
use crate::orchestrate::resources::code::Code as PlatformCode;
use crate::orchestrate::resources::proved::Proved;
use crate::orchestrate::resources::share::SharedUploads;
use crate::orchestrate::rotation::Sites;
use crate::orchestrate::servers::Servers;
use crate::orchestrate::{Fate, Graph, NodeId, Phase};
use crate::services::{app, web};
use configured::Turn;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use sync_proto::wire::service::{AppState, ServiceFacts};

/// A graph, and what the inventory itself gives reason to say.
pub(crate) struct Built {
    /// Everything that should be true.
    pub(crate) graph: Graph,
    /// What is worth saying before anything is compared.
    pub(crate) notes: Vec<Problem>,
}

/// What is known while the graph is built.
struct Ground<'a> {
    context: &'a Context,
    hub: &'a Hub,
    request: &'a Request,
    servers: Arc<Servers>,
    /// Each site's application.
    apps: BTreeMap<SiteUri, Application>,
    /// What each server with something to configure reported, or why it didn't.
    facts: BTreeMap<ServerName, Result<ServiceFacts, Problem>>,
    /// What there is of each site on each of its members.
    states: BTreeMap<(ServerName, SiteUri), AppState>,
    /// Sites that were served and are on no member of theirs any more, by server.
    former: BTreeMap<ServerName, BTreeSet<SiteUri>>,
    /// Who goes back with whom.
    fates: Fates,
}

/// Nodes by the server or site that they are about.
#[derive(Default)]
struct Nodes {
    code: BTreeMap<ServerName, Vec<NodeId>>,
    database: BTreeMap<SiteUri, NodeId>,
    proofs: Vec<NodeId>,
    /// Those of members that decide together.
    shared_proofs: Vec<NodeId>,
    balancers: Vec<NodeId>,
    left: Vec<NodeId>,
}

/// Everything that should be true.
pub(crate) async fn graph(
    context: &Context,
    hub: &Hub,
    request: &Request,
) -> Result<Built, CommandError> {
    refuse_undecided(hub)?;
    let traps = look_for_traps(hub)?;
    let ground = Ground::look(context, hub, request).await?;
    let closed = ground.closed_sites().await?;
    let databases = Databases::open(context, hub, &ground.servers).await?;
    let databases = databases.with_staying(ground.staying());
    let (materials, mut notes) = materials::materials(context, hub, &closed, &databases).await?;
    for uri in &closed {
        let message = format!("{uri} isn't installed yet, and closed until it is");
        let hint = format!("fanout install site {uri}");
        notes.push(Problem::new(Code::NotInstalled, message).with_hint(hint));
    }
    notes.extend(traps);
    let mut built = Built {
        graph: Graph::default(),
        notes,
    };
    let mut nodes = Nodes::default();
    if request.is_whole() {
        ground.code(&mut built, &mut nodes).await?;
        let fates = &ground.fates;
        nodes.database = databases.make(hub, request, fates, &mut built).await?;
    }
    let modes = hub.store.site_modes().await.map_err(store_error)?;
    let hidden: BTreeSet<SiteUri> = modes.into_keys().chain(closed).collect();
    ground.web(&materials, &hidden, &mut built, &mut nodes);
    ground.balancers(&materials, &mut built, &mut nodes);
    if request.is_whole() {
        ground.former_members(&materials, &mut built, &mut nodes);
        let mut last = nodes.proofs;
        last.extend(nodes.balancers.iter().chain(&nodes.left));
        databases.clean(hub, request, &last, &mut built).await?;
    }
    Ok(built)
}

/// A site on several members has to say what becomes of uploads.
fn refuse_undecided(hub: &Hub) -> Result<(), CommandError> {
    let undecided = hub.inventory.sites_without_uploads();
    let Some(first) = undecided.first() else {
        return Ok(());
    };
    let names: Vec<&str> = undecided.iter().map(|site| site.uri.as_str()).collect();
    let count = hub.inventory.members_of_site(first).len();
    Err(CommandError::new(
        Code::UploadsUndecided,
        format!(
            "{} on several members (the first on {count}) without a word about uploads",
            names.join(", ")
        ),
    )
    .hint(format!(
        "fanout edit site {} --uploads pin:SERVER, mount:/PATH or external",
        first.uri
    )))
}

impl<'a> Ground<'a> {
    async fn look(
        context: &'a Context,
        hub: &'a Hub,
        request: &'a Request,
    ) -> Result<Self, CommandError> {
        let inventory = &hub.inventory;
        let servers = servers(hub, inventory.servers.keys().cloned()).await?;
        let apps = apps(hub, &servers).await?;
        let former = former(hub).await?;
        let mut ground = Self {
            context,
            hub,
            request,
            servers,
            apps,
            facts: BTreeMap::new(),
            states: BTreeMap::new(),
            former,
            fates: Fates::of(inventory),
        };
        ground.ask().await;
        Ok(ground)
    }

    /// Servers that get configuration.
    fn configured(&self) -> BTreeSet<ServerName> {
        let inventory = &self.hub.inventory;
        let mut names: BTreeSet<ServerName> = self.former.keys().cloned().collect();
        for server in inventory.servers.values() {
            if server.web.is_some() && !sites_on(inventory, &server.name).is_empty() {
                names.insert(server.name.clone());
            }
        }
        for balancer in inventory.balancers.values() {
            if !desired::is_external(balancer) {
                names.extend(balancer.servers.iter().cloned());
            }
        }
        let request = self.request;
        names.retain(|name| inventory.servers.contains_key(name) && !request.is_gone(name));
        names.retain(|name| request.configures(name));
        names
    }

    /// Facts of servers, and the state of sites on their members, all at once.
    async fn ask(&mut self) {
        let mut asking = tokio::task::JoinSet::new();
        for name in self.configured() {
            let servers = self.servers.clone();
            let listed = sites_on(&self.hub.inventory, &name).into_iter();
            let listed: BTreeSet<&SiteUri> = listed.map(|(site, _)| &site.uri).collect();
            // Where a site moves to servers that never had it, only those that did can say.
            let former = self.former.get(&name).into_iter().flatten();
            let uris: BTreeSet<&SiteUri> = listed.into_iter().chain(former).collect();
            let apps = uris.into_iter().filter_map(|uri| self.apps.get(uri));
            let apps: Vec<Application> = apps.cloned().collect();
            asking.spawn(async move {
                let facts = servers.facts(&name).await;
                let mut states = Vec::new();
                if facts.is_ok() {
                    for app in apps {
                        // A member that has neither code nor settings yet can't say anything.
                        if let Ok(state) = app.look(&name).await {
                            states.push((app.uri().clone(), state));
                        }
                    }
                }
                (name, facts, states)
            });
        }
        while let Some(answer) = asking.join_next().await {
            let Ok((name, facts, states)) = answer else {
                continue;
            };
            for (site, state) in states {
                self.states.insert((name.clone(), site), state);
            }
            self.facts.insert(name, facts);
        }
    }

    /// Sites with an installer whose database holds no installation, as far as members can say. One
    /// that was there before fanout, or that a member could not find out about, is not closed for
    /// that alone: it may be served.
    async fn closed_sites(&self) -> Result<BTreeSet<SiteUri>, CommandError> {
        let inventory = &self.hub.inventory;
        let mut closed = BTreeSet::new();
        for site in inventory.sites.values() {
            let Some(platform) = inventory.platforms.get(&site.platform) else {
                continue;
            };
            if site.db.is_none() || !app::is_installable(driver(platform)) {
                continue;
            }
            // A site that moves is installed where it is still.
            let of_it = self.states.iter().filter(|((_, uri), _)| *uri == site.uri);
            let says: Vec<&AppState> = of_it.map(|(_, state)| state).collect();
            let any = |word| says.iter().any(|state| state.is_installed == word);
            let is_open = any(Some(true))
                || (!any(Some(false))
                    && (says.iter().any(|state| !state.warnings.is_empty())
                        || self.was_there(&site.uri).await?));
            if !is_open {
                closed.insert(site.uri.clone());
            }
        }
        Ok(closed)
    }

    /// Its database was there before fanout was.
    async fn was_there(&self, site: &SiteUri) -> Result<bool, CommandError> {
        let recorded = self.hub.store.site_database(site).await;
        let recorded = recorded.map_err(store_error)?;
        Ok(recorded.is_some_and(|it| it.was_there()))
    }

    /// The code of every platform that was pushed, on each of its members.
    async fn code(&self, built: &mut Built, nodes: &mut Nodes) -> Result<(), CommandError> {
        let by = Arc::new(Resync::new(self.context));
        for platform in self.hub.inventory.platforms.values() {
            let state = self.hub.state(&platform.name).await?;
            let Some(desired) = state.desired else {
                if !self.hub.inventory.sites_of(&platform.name).is_empty() {
                    let message =
                        format!("{} was never pushed, so no member has it", platform.name);
                    let hint = format!("fanout push platform {}", platform.name);
                    let note = Problem::new(Code::NothingPushed, message).with_hint(hint);
                    built.notes.push(note);
                }
                continue;
            };
            if let Some(locked) = locked(&state) {
                built.notes.push(locked);
                continue;
            }
            for server in self.hub.inventory.members(platform) {
                if self.request.is_gone(&server.name) {
                    continue;
                }
                let node = built.graph.add(
                    self.fates.member(&server.name).within(Phase::Switch),
                    Arc::new(PlatformCode {
                        servers: self.servers.clone(),
                        by: by.clone(),
                        platform: platform.name.clone(),
                        tree: *state.tree.as_bytes(),
                        desired: desired.0,
                        server: server.name.clone(),
                    }),
                    &[],
                );
                nodes
                    .code
                    .entry(server.name.clone())
                    .or_default()
                    .push(node);
            }
        }
        Ok(())
    }

    /// Former members by the sites that they serve until their removal is allowed.
    fn staying(&self) -> BTreeMap<SiteUri, BTreeSet<ServerName>> {
        let mut staying: BTreeMap<SiteUri, BTreeSet<ServerName>> = BTreeMap::new();
        for (server, sites) in &self.former {
            for site in sites.iter().filter(|site| !self.may_leave(server, site)) {
                staying
                    .entry(site.clone())
                    .or_default()
                    .insert(server.clone());
            }
        }
        staying
    }

    fn may_leave(&self, server: &ServerName, site: &SiteUri) -> bool {
        self.request.may_remove(server.as_str())
            || self.request.may_remove(site.as_str())
            || self.request.is_gone(server)
    }

    /// Configuration, application and proof of every member.
    fn web(
        &self,
        materials: &Materials,
        hidden: &BTreeSet<SiteUri>,
        built: &mut Built,
        nodes: &mut Nodes,
    ) {
        let inventory = &self.hub.inventory;
        let open = without(inventory, hidden);
        for server in inventory.servers.values() {
            let sites = sites_on(inventory, &server.name);
            if server.web.is_none() || sites.is_empty() || self.request.is_gone(&server.name) {
                continue;
            }
            let mut after: Vec<NodeId> = nodes.code.get(&server.name).cloned().unwrap_or_default();
            let of_sites = sites
                .iter()
                .filter_map(|(site, _)| nodes.database.get(&site.uri));
            after.extend(of_sites.copied());
            let turn = Turn::Serving;
            let Some(configured) = self.configuration(materials, server, turn, built, &after)
            else {
                continue;
            };
            let place = self.fates.member(&server.name).within(Phase::Switch);
            let mut before_proof = vec![configured];
            for (site, platform) in sites.iter().filter(|_| self.request.is_whole()) {
                before_proof.extend(self.application(server, site, platform, built, configured));
            }
            let platforms: Vec<&Platform> = open.platforms.values().collect();
            let proved = Proved {
                sites: Sites::of(&on(&open, &server.name), &platforms, self.servers.clone()),
                server: server.name.clone(),
            };
            let is_alone = matches!(place.fate, Fate::Member(_));
            let proof = built.graph.add(place, Arc::new(proved), &before_proof);
            nodes.proofs.push(proof);
            if !is_alone {
                nodes.shared_proofs.push(proof);
            }
        }
    }

    fn application(
        &self,
        server: &Server,
        site: &Site,
        platform: &Platform,
        built: &mut Built,
        after: NodeId,
    ) -> Option<NodeId> {
        let app = self.apps.get(&site.uri)?.clone();
        let sites = self.hub.inventory.sites_of(&platform.name);
        let hosts = sites.iter().flat_map(|other| {
            let dir = app_site(other, platform, driver(platform));
            let dir = dir.site_dir().to_owned();
            std::iter::once(&other.uri)
                .chain(&other.aliases)
                .map(move |uri| (uri.host().to_owned(), dir.clone()))
        });
        let key = (server.name.clone(), site.uri.clone());
        let after = self.shared(server, site, built, after);
        let files = ApplicationFiles {
            app,
            server: server.name.clone(),
            hosts: hosts.collect(),
            share: match &site.uploads {
                Some(Uploads::Mount(path)) => path.as_str().as_bytes().to_vec(),
                _ => Vec::new(),
            },
            is_new: !self.states.contains_key(&key),
        };
        let place = self.fates.member(&server.name).within(Phase::Switch);
        Some(built.graph.add(place, Arc::new(files), &[after]))
    }

    /// The share of a site's uploads, before anything is made on it.
    fn shared(&self, server: &Server, site: &Site, built: &mut Built, after: NodeId) -> NodeId {
        let Some(Uploads::Mount(path)) = &site.uploads else {
            return after;
        };
        let members = self.hub.inventory.members_of_site(site).into_iter();
        let members = members.filter(|member| !self.request.is_gone(&member.name));
        let share = SharedUploads {
            servers: self.servers.clone(),
            site: site.uri.clone(),
            server: server.name.clone(),
            path: path.as_str().to_owned(),
            user: web::pool_user(site),
            members: members.map(|member| member.name.clone()).collect(),
        };
        let place = self.fates.member(&server.name).within(Phase::Switch);
        built.graph.add(place, Arc::new(share), &[after])
    }
}

/// Sites that servers serve and aren't listed there any more.
pub(super) async fn former(
    hub: &Hub,
) -> Result<BTreeMap<ServerName, BTreeSet<SiteUri>>, CommandError> {
    let mut former: BTreeMap<ServerName, BTreeSet<SiteUri>> = BTreeMap::new();
    for (server, site) in hub.store.served().await.map_err(store_error)? {
        let listed = sites_on(&hub.inventory, &server);
        if !listed.iter().any(|(listed, _)| listed.uri == site) {
            former.entry(server).or_default().insert(site);
        }
    }
    Ok(former)
}

/// The application of every site.
async fn apps(
    hub: &Hub,
    servers: &Arc<Servers>,
) -> Result<BTreeMap<SiteUri, Application>, CommandError> {
    let mut apps = BTreeMap::new();
    for site in hub.inventory.sites.values() {
        let Some(platform) = hub.inventory.platforms.get(&site.platform) else {
            continue;
        };
        let tree = *hub.state(&platform.name).await?.tree.as_bytes();
        let app = Application::new(servers.clone(), site, platform, tree, driver(platform));
        apps.insert(site.uri.clone(), app);
    }
    Ok(apps)
}

/// The inventory without some sites.
fn without(inventory: &Inventory, hidden: &BTreeSet<SiteUri>) -> Inventory {
    let mut rest = inventory.clone();
    rest.sites.retain(|uri, _| !hidden.contains(uri));
    rest
}

/// The inventory with the sites of one server only.
fn on(inventory: &Inventory, server: &ServerName) -> Inventory {
    let mut rest = inventory.clone();
    let here: BTreeSet<SiteUri> = sites_on(inventory, server)
        .into_iter()
        .map(|(site, _)| site.uri.clone())
        .collect();
    rest.sites.retain(|uri, _| here.contains(uri));
    rest
}
