//! Whether a push may go on where it brings schema updates, and what is done when.

use super::{AppDriver, driver_name};
use crate::model::{SiteUri, UpdateMode};

/// What is known of one site before new code goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteVersions {
    /// Which.
    pub site: SiteUri,
    /// How it is handled.
    pub driver: AppDriver,
    /// The version of the code that runs now; empty if it can't be told.
    pub live: String,
    /// The version of the code that is to come.
    pub next: String,
    /// Its database holds an installation.
    pub is_installed: bool,
    /// Schema updates that wait already, or are known to come.
    pub pending: Vec<String>,
}

impl SiteVersions {
    /// Why its schema may have to be updated after this push, in a few words; `None` if not.
    pub fn reason(&self) -> Option<String> {
        if !self.is_installed || !has_schema(self.driver) {
            return None;
        }
        if !self.pending.is_empty() {
            return Some(format!("pending: {}", self.pending.join(", ")));
        }
        (self.live != self.next).then(|| {
            let shown = |version: &str| match version {
                "" => "unknown version".to_owned(),
                version => version.to_owned(),
            };
            let (live, next) = (shown(&self.live), shown(&self.next));
            format!("{} {live} -> {next}", driver_name(self.driver))
        })
    }
}

/// When the schema is updated, relative to the moment in which new code goes live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateWhen {
    /// Nothing is updated.
    Never,
    /// Before, from the staged code, on one member; the live code must cope with the new schema.
    Before,
    /// Right after, on one member.
    After,
}

/// What a push does about its sites' schemas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdatePlan {
    /// When.
    pub when: UpdateWhen,
    /// Maintenance pages are shown from before the switch until the updates are done.
    pub in_maintenance: bool,
    /// The sites, each with the reason.
    pub sites: Vec<(SiteUri, String)>,
    /// Why it can't be taken back, for plans.
    pub irreversible: Option<String>,
}

/// A push that would bring updates that nobody decided about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "This push brings schema updates, and nobody has decided about them: {}",
    listed(.sites)
)]
pub struct Undecided {
    /// The sites, each with the reason.
    pub sites: Vec<(SiteUri, String)>,
}

impl Undecided {
    /// What to do about it.
    pub const HINT: &'static str = "choose: --update maintenance (pages say so meanwhile), \
         --update expand (the old code copes with the new schema), --update after (a short mixed \
         state), --update none (nothing is updated now)";
}

/// What is done about these sites. `mode` is what the person decided.
///
/// # Errors
/// [`Undecided`] if there are updates and no decision.
pub fn decide(sites: &[SiteVersions], mode: Option<UpdateMode>) -> Result<UpdatePlan, Undecided> {
    let sites: Vec<(SiteUri, String)> = sites
        .iter()
        .filter_map(|site| Some((site.site.clone(), site.reason()?)))
        .collect();
    let mode = match mode {
        Some(mode) => mode,
        None if sites.is_empty() => UpdateMode::None,
        None => return Err(Undecided { sites }),
    };
    let when = match mode {
        _ if sites.is_empty() => UpdateWhen::Never,
        UpdateMode::None => UpdateWhen::Never,
        UpdateMode::Expand => UpdateWhen::Before,
        UpdateMode::Maintenance | UpdateMode::After => UpdateWhen::After,
    };
    let irreversible = (when != UpdateWhen::Never).then(|| {
        format!(
            "the schema of {} is updated, and a rollback brings back the code only; where a member \
             isn't proved after it, the sites stay in maintenance",
            names(&sites)
        )
    });
    Ok(UpdatePlan {
        when,
        in_maintenance: when != UpdateWhen::Never && mode == UpdateMode::Maintenance,
        sites,
        irreversible,
    })
}

/// What a rollback means for a site whose schema was updated since; for a warning before it.
pub fn rollback_warning(site: &SiteUri, updated_to: &str, back_to: &str) -> String {
    format!(
        "The database of {site} was updated for {updated_to}; a rollback to {back_to} brings back \
         the code alone, which may not cope with that schema. A backup of the database from before \
         the update has to be restored along with it"
    )
}

fn listed(sites: &[(SiteUri, String)]) -> String {
    let lines = sites.iter().map(|(site, why)| format!("{site} ({why})"));
    lines.collect::<Vec<_>>().join(", ")
}

fn names(sites: &[(SiteUri, String)]) -> String {
    let names: Vec<&str> = sites.iter().map(|(site, _)| site.as_str()).collect();
    names.join(", ")
}

const fn has_schema(driver: AppDriver) -> bool {
    super::is_installable(driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(live: &str, next: &str, pending: &[&str]) -> SiteVersions {
        SiteVersions {
            site: "www.example.com".parse().unwrap(),
            driver: AppDriver::Wordpress,
            live: live.into(),
            next: next.into(),
            is_installed: true,
            pending: pending.iter().map(|&text| text.to_owned()).collect(),
        }
    }

    #[test]
    fn updates_without_a_decision_are_refused_with_the_sites() {
        let error = decide(&[site("6.1", "6.2", &[])], None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "This push brings schema updates, and nobody has decided about them: \
             www.example.com (WordPress 6.1 -> 6.2)"
        );
        assert!(decide(&[site("6.1", "6.1", &["db 53496 -> 60421"])], None).is_err());
    }

    #[test]
    fn a_push_without_updates_needs_no_decision() {
        let plan = decide(&[site("6.1", "6.1", &[])], None).unwrap();
        assert_eq!(plan.when, UpdateWhen::Never);
        assert_eq!(plan.irreversible, None);
        let mut fresh = site("", "6.2", &[]);
        fresh.is_installed = false;
        assert!(decide(&[fresh], None).is_ok());
    }

    #[test]
    fn every_decision_says_when_and_whether_pages_say_so() {
        let updates = [site("6.1", "6.2", &[])];
        let of = |mode| {
            let plan = decide(&updates, Some(mode)).unwrap();
            (plan.when, plan.in_maintenance, plan.irreversible.is_some())
        };
        assert_eq!(of(UpdateMode::Maintenance), (UpdateWhen::After, true, true));
        assert_eq!(of(UpdateMode::Expand), (UpdateWhen::Before, false, true));
        assert_eq!(of(UpdateMode::After), (UpdateWhen::After, false, true));
        assert_eq!(of(UpdateMode::None), (UpdateWhen::Never, false, false));
    }
}
