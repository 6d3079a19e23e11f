//! What a site needs of the hub: a certificate that is whole, and templates that keep to the rules.

use super::Diagnosis;
use crate::cli::hub::Hub;
use crate::cli::serving::{SOON_S, certificate_there, own_template};
use crate::config::{Secrets, Site};
use crate::model::{ServerName, SiteTls, SiteUri};
use crate::net::certificate::{self, CertificateError};
use crate::orchestrate::servers::{LOOK, Servers, unexpected};
use crate::services::database::Names;
use sync_proto::path::escape;
use sync_proto::wire::service::database::{DatabaseLogin, ProbeAnswer, ProbeRequest};
use sync_proto::wire::{ServiceAnswer, ServiceRequest};

/// The template that says which path PHP gets.
const FASTCGI: &str = "nginx-fastcgi.inc";

/// A certificate can be read, belongs to its key, has its chain in order, holds for every name of
/// the site, and for a while.
pub(super) async fn certificate(hub: &Hub, site: &Site, diagnosis: &mut Diagnosis) {
    if site.tls == SiteTls::Off {
        return;
    }
    diagnosis.checks += 4;
    let uri = &site.uri;
    let mut found = |message: String, remedy: &str| {
        diagnosis.found(None, "certificate", format!("{uri}: {message}"), remedy);
    };
    let own = "correct `certificate` and `key` of the site, then fanout apply";
    let (chain, key, is_own) = match certificate_there(hub, site).await {
        Ok(Some(there)) => there,
        // The first apply makes one.
        Ok(None) => return,
        Err(why) => return found(why, own),
    };
    let facts = match certificate::check(&chain, &key) {
        Ok(facts) => facts,
        Err(error) => {
            let remedy = match &error {
                CertificateError::OtherKey => {
                    "give the key that belongs to it: fanout edit site ADDRESS --key REF"
                }
                CertificateError::BrokenChain(_) => {
                    "put the site's own certificate first, and after each one that of its issuer"
                }
                _ => own,
            };
            return found(error.to_string(), remedy);
        }
    };
    let now_s = hub.clock.now().0 / 1000;
    let left_s = facts.not_after_s - now_s;
    let renew = match is_own {
        true => "replace the file by its successor, then fanout apply",
        false => "fanout secret remove what `fanout secret list` shows for it, then fanout apply",
    };
    if left_s <= 0 {
        found("the certificate has expired".into(), renew);
    } else if left_s < SOON_S {
        let message = format!("the certificate ends in {} days", left_s / 86_400);
        found(message, renew);
    }
    if facts.not_before_s > now_s {
        found(
            "the certificate is not valid yet".into(),
            "compare the hub's clock with the certificate's beginning",
        );
    }
    if is_own && facts.is_self_signed {
        found(
            "the certificate is signed by itself, so browsers warn of it".into(),
            "have one signed by an authority, with its chain",
        );
    }
    for host in std::iter::once(uri).chain(&site.aliases).map(SiteUri::host) {
        if !facts.covers(host) {
            found(
                format!("the certificate doesn't name {host}"),
                "have one made for all names of the site, or take the alias away",
            );
        }
    }
}

/// The account that fanout made for a site, if it did.
pub(super) async fn account(
    hub: &Hub,
    site: &Site,
    host: &str,
    port: u16,
) -> Option<DatabaseLogin> {
    let recorded = hub.store.site_database(&site.uri).await.ok()??;
    let names = Names::called(&recorded.user).ok()?;
    let secrets = Secrets::new(&hub.dir, false);
    let password = secrets.store().read(&names.secret().ok()?).ok()??;
    Some(DatabaseLogin {
        host: host.to_owned(),
        port,
        user: names.user.clone(),
        password: password.expose().parse().ok()?,
        database: names.database.clone(),
    })
}

/// A member logs in to the site's database as the site does.
pub(super) async fn login(
    servers: &Servers,
    site: &Site,
    member: &ServerName,
    account: &DatabaseLogin,
    diagnosis: &mut Diagnosis,
) {
    diagnosis.checks += 1;
    let request = ProbeRequest::Login(Box::new(account.clone()));
    let request = ServiceRequest::DatabaseProbe(request);
    let why = match servers.ask(member, request, LOOK).await {
        Ok(ServiceAnswer::DatabaseProbe(ProbeAnswer::LoggedIn(_))) => return,
        Ok(ServiceAnswer::DatabaseProbe(ProbeAnswer::Denied(failure))) => {
            format!("{} {}", failure.number, escape(failure.message.as_bytes()))
        }
        Ok(_) => unexpected(member).message,
        Err(problem) => problem.message,
    };
    let message = format!("can't log in to the database of {}: {why}", site.uri);
    let remedy = "fanout apply brings accounts in line with the members";
    diagnosis.found(Some(member), "database", message, remedy);
}

/// PHP gets the resolved path: with `$document_root`, a new generation's files are taken for the old
/// one's by OPcache.
pub(super) fn templates(hub: &Hub, diagnosis: &mut Diagnosis) {
    let Some(text) = own_template(hub, FASTCGI) else {
        return;
    };
    diagnosis.checks += 1;
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let code: String = code.collect();
    if !code.contains("$realpath_root") || code.contains("$document_root") {
        diagnosis.found(
            None,
            "templates",
            format!(
                "templates/{FASTCGI} hands $document_root to PHP, so after a switch OPcache goes on \
                 with the old generation's files"
            ),
            "use $realpath_root for SCRIPT_FILENAME and DOCUMENT_ROOT, as the built-in template does",
        );
    }
}
