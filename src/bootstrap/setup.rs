//! Puts fanout on a server and starts the agent, in one round trip that ends with an invitation.
//!
//! Every step may be done again: an executable that is there already isn't sent, an agent that was
//! prepared stays as it is, and one that runs the same executable isn't restarted. The executable
//! is checked and tried before it takes its name.

use super::binary::Binary;
use super::probe::Facts;
use super::ssh::{SshTarget, quoted};
use super::{Install, units};
use crate::codes::{Code, Problem};
use std::time::Duration;

/// LIMIT: how long preparing and starting the agent may take, copying apart.
const TIME: Duration = Duration::from_secs(120);
/// LIMIT: the slowest line over which an executable is worth sending, in bytes a second.
const SLOWEST: u64 = 100_000;

/// How the agent runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Running {
    /// As the service `fanout-agent`, which starts with the server.
    Service,
    /// By itself, until the server is restarted.
    Detached {
        /// Where it writes what it has to say.
        log: String,
    },
}

/// What an installed agent handed out.
pub(super) struct Prepared {
    pub(super) running: Running,
    /// The invitation: whoever has it can become the agent's hub.
    pub(super) token: String,
}

/// Installs, prepares and starts an agent. `binary` is sent if it is given.
pub(super) async fn set_up(
    target: &SshTarget,
    facts: &Facts,
    binary: Option<&Binary>,
    install: &Install,
) -> Result<Prepared, Problem> {
    let content = binary.map_or(&[][..], |binary| &binary.content);
    let copying = Duration::from_secs(content.len() as u64 / SLOWEST);
    let script = script(facts, binary, install);
    let answer = target.script(&script, content, TIME + copying).await?;
    let token = answer.value("token").filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| {
        Problem::new(
            Code::InstallFailed,
            format!("The agent on {} gave no invitation", target.destination),
        )
    })?;
    let running = match answer.value("log") {
        Some(log) => Running::Detached {
            log: log.to_owned(),
        },
        None => Running::Service,
    };
    Ok(Prepared {
        running,
        token: token.to_owned(),
    })
}

/// True if the agent becomes a service.
fn is_service(facts: &Facts) -> bool {
    facts.has_systemd && facts.is_root
}

fn script(facts: &Facts, binary: Option<&Binary>, install: &Install) -> String {
    let agent_dir = install.agent_dir(facts);
    let mut script = format!(
        "set -eu\numask 022\nbinary={}\ndir={}\n",
        quoted(&facts.binary),
        quoted(agent_dir.unwrap_or_default())
    );
    // Words that stay apart: `set -- ...` would lose them between the steps.
    script.push_str(
        "agent() { word=$1; shift; \"$binary\" agent \"$word\" ${dir:+--dir \"$dir\"} \"$@\"; }\n",
    );
    script.push_str("config=${dir:-/etc/fanout}/agent.toml\nstate=${dir:-/var/lib/fanout/agent}\n");
    script.push_str(
        "if [ -n \"$dir\" ]; then socket=$dir/run.sock; else socket=/run/fanout/agent.sock; fi\n",
    );
    match binary {
        Some(binary) => {
            let facts = format!("bytes={}\nsum={}\n", binary.content.len(), binary.checksum);
            script.push_str(&facts);
            script.push_str(COPY);
        }
        None => script.push_str("changed=\n"),
    }
    let words = install.init_words(facts);
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    script.push_str(&format!(
        "step 'Preparing the agent'\n[ -e \"$config\" ] || agent init {} </dev/null >&2\n",
        words.join(" ")
    ));
    if let Some(offers) = install.offered() {
        script.push_str(&format!("offers={offers}\n{OFFER}"));
    }
    if is_service(facts) {
        let unit = units::agent_service(
            &facts.binary,
            agent_dir,
            &install.allow(facts),
            install.prefix.as_ref(),
        );
        script.push_str(&format!("unit={}\n", quoted(&unit)));
        if !install.offers.is_empty() {
            let drop_in = quoted(units::AGENT_SERVICES);
            script.push_str(&format!("drop_in={drop_in}\n{UNCONFINE}"));
        }
        script.push_str(SERVICE);
    } else {
        script.push_str(DETACHED);
    }
    script
}

/// `binary`, `bytes` and `sum` are set; the executable is standard input.
const COPY: &str = r#"
step 'Copying the program'
mkdir -p "${binary%/*}"
new=$binary.new.$$
trap 'rm -f "$new"' EXIT
cat >"$new"
got=$(wc -c <"$new")
[ "$got" -eq "$bytes" ] || { echo "only $got of $bytes bytes arrived" >&2; exit 1; }
if command -v sha256sum >/dev/null; then
    found=$(sha256sum <"$new")
    [ "${found%% *}" = "$sum" ] || { echo "the copy has another checksum" >&2; exit 1; }
fi
chmod 755 "$new"
step 'Trying the program'
"$new" --version </dev/null >/dev/null
mv -f "$new" "$binary"
trap - EXIT
changed=yes
"#;

/// `offers` is set. An agent that runs has to read its configuration again.
const OFFER: &str = r#"
step 'Offering services'
before=$(cat "$config")
agent offer "$offers" </dev/null >&2
[ "$(cat "$config")" = "$before" ] || changed=yes
"#;

/// `drop_in` is the text of the service's settings for an agent that offers services.
const UNCONFINE: &str = r#"
step 'Preparing the service for what it offers'
parts=/etc/systemd/system/fanout-agent.service.d
if [ "$(cat "$parts/services.conf" 2>/dev/null)" != "$drop_in" ]; then
    mkdir -p "$parts"
    printf '%s\n' "$drop_in" >"$parts/services.conf"
    changed=yes
    systemctl daemon-reload
fi
"#;

/// `unit` is the service file's text. `restart` waits until the agent says that it is ready.
const SERVICE: &str = r#"
step 'Installing the service'
file=/etc/systemd/system/fanout-agent.service
if [ "$(cat "$file" 2>/dev/null)" != "$unit" ]; then
    printf '%s\n' "$unit" >"$file"
    changed=yes
    systemctl daemon-reload
fi
systemctl --quiet enable fanout-agent </dev/null
step 'Starting the agent'
if [ -n "$changed" ] || ! systemctl --quiet is-active fanout-agent; then
    systemctl restart fanout-agent </dev/null || {
        journalctl --unit fanout-agent --lines 5 --no-pager --output cat >&2
        exit 1
    }
fi
step 'Inviting the hub'
token=$(agent invite </dev/null)
say token "$token"
"#;

/// Without systemd, or without the right to use it. What was started by an earlier installation is
/// found by its process id, and only if it still runs this very executable.
const DETACHED: &str = r#"
step 'Starting the agent'
log=$state/agent.log
pid=$(cat "$state/agent.pid" 2>/dev/null || true)
runs=
case $(readlink "/proc/${pid:-none}/exe" 2>/dev/null || true) in
    "$binary") runs=yes ;;
    "$binary (deleted)") kill "$pid" ;;
esac
if [ -n "$runs" ] && [ -n "$changed" ]; then
    kill "$pid"
    runs=
fi
if [ -n "$pid" ] && [ -z "$runs" ]; then
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ $tries -lt 300 ]; do
        tries=$((tries + 1))
        sleep 0.1 2>/dev/null || sleep 1
    done
fi
if [ -z "$runs" ]; then
    umask 077
    [ -n "$dir" ] || mkdir -p /run/fanout
    : >"$log"
    away=
    command -v setsid >/dev/null && away=setsid
    trap '' HUP
    # exec: the process id is that of the agent.
    ( exec $away "$binary" agent run ${dir:+--dir "$dir"} </dev/null >>"$log" 2>&1 ) &
    pid=$!
    echo "$pid" >"$state/agent.pid"
fi
tries=0
until [ -S "$socket" ] && token=$(agent invite </dev/null 2>>"$log"); do
    tries=$((tries + 1))
    if ! kill -0 "$pid" 2>/dev/null || [ $tries -ge 300 ]; then
        tail -n 5 "$log" >&2
        exit 1
    fi
    sleep 0.1 2>/dev/null || sleep 1
done
say log "$log"
say token "$token"
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AbsPath, Offer};
    use std::collections::BTreeSet;

    fn install() -> Install {
        Install::new("web1".parse().unwrap(), "web1:4601".parse().unwrap())
    }

    fn paths(list: &[&str]) -> Vec<AbsPath> {
        list.iter().map(|path| path.parse().unwrap()).collect()
    }

    #[test]
    fn an_agent_is_a_service_only_for_root_under_systemd() {
        let facts = Facts::example();
        assert!(is_service(&facts));
        assert!(script(&facts, None, &install()).contains("systemctl restart fanout-agent"));
        for facts in [
            Facts {
                has_systemd: false,
                ..Facts::example()
            },
            Facts {
                is_root: false,
                ..Facts::example()
            },
        ] {
            let script = script(&facts, None, &install());
            assert!(!script.contains("systemctl"), "{script}");
            assert!(script.contains("setsid"), "{script}");
        }
    }

    #[test]
    fn strange_directories_stay_one_word() {
        let mut install = install();
        install.allow = paths(&["/srv/it's", "/srv/$(id)"]);
        install.dir = Some("/opt/a b".parse().unwrap());
        let script = script(&Facts::example(), None, &install);
        assert!(script.contains("dir='/opt/a b'"), "{script}");
        assert!(script.contains("\"/srv/it's\""), "{script}");
        assert!(script.contains("'/srv/$(id)'"), "{script}");
        assert!(script.contains("ExecStart=/usr/local/bin/fanout agent run --dir"));
    }

    #[test]
    fn an_agent_that_offers_services_is_told_so_and_may_manage_them() {
        let facts = Facts::example();
        let mut offering = install();
        offering.offers = BTreeSet::from([Offer::Web, Offer::App]);
        let told = script(&facts, None, &offering);
        assert!(told.contains("offers=web,app\n"), "{told}");
        assert!(told.contains("fanout-agent.service.d"), "{told}");
        let trees_only = script(&facts, None, &install());
        assert!(!trees_only.contains("agent offer"), "{trees_only}");
        assert!(
            !trees_only.contains("fanout-agent.service.d"),
            "{trees_only}"
        );
    }

    #[test]
    fn a_server_without_ipv6_gets_an_address_it_can_listen_at() {
        let words = |has_ipv6| {
            let facts = Facts {
                has_ipv6,
                ..Facts::example()
            };
            install().init_words(&facts).join(" ")
        };
        assert_eq!(
            words(true),
            "--name web1 --listen [::]:4601 --allow /srv --allow /var/www"
        );
        assert!(words(false).contains("--listen 0.0.0.0:4601"));
    }
}
