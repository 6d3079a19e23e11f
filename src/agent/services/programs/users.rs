//! System users of pools: made where they are missing, and never changed.

use crate::codes::{Code, Problem};
use crate::fs::owner::Principals;
use crate::proc::Program;
use std::time::Duration;
use sync_proto::entry::Principal;
use sync_proto::path::escape;

/// How long `useradd` may take: name services can be slow.
const LIMIT: Duration = Duration::from_secs(60);

/// Makes the system user with a group of the same name, unless there is one. True if it was made.
///
/// # Errors
/// The name isn't one, it is root's, or the system refuses.
pub(in crate::agent::services) async fn ensure(user: &str) -> Result<bool, Problem> {
    let refused = |message: String| Problem::new(Code::UserRefused, message);
    if !is_user(user) {
        let shown = escape(user.as_bytes());
        return Err(refused(format!(
            "`{shown}` is not the name of a system user"
        )));
    }
    let principals = Principals::by_name();
    let name = Principal::Name(user.into());
    match (principals.uid(&name), principals.gid(&name)) {
        (Ok(0), _) | (_, Ok(0)) => {
            return Err(refused(format!("PHP may not run as `{user}`")));
        }
        (Ok(_), Ok(_)) => return Ok(false),
        (Ok(_), Err(_)) => {
            return Err(refused(format!(
                "The user `{user}` has no group of that name"
            )));
        }
        (Err(_), _) => {}
    }
    let made = Program::new("useradd")
        .args(["--system", "--no-create-home", "--user-group"])
        .args(["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"])
        .arg("--")
        .arg(user)
        .timeout(LIMIT)
        .succeed()
        .await;
    match made {
        Ok(_) => {
            tracing::info!(user, "made a system user");
            Ok(true)
        }
        Err(error) => Err(Problem::from_error(Code::UserRefused, &error)),
    }
}

/// What `useradd` takes without being told otherwise.
fn is_user(text: &str) -> bool {
    let first = text.chars().next();
    let starts_well = first.is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    starts_well && text.len() <= 32 && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn root_and_what_is_no_name_are_refused() {
        for bad in ["root", "", "-x", "a b", "a:b", "A", &"a".repeat(33)] {
            let problem = ensure(bad).await.unwrap_err();
            assert_eq!(problem.code, Code::UserRefused, "{bad}");
        }
    }
}
