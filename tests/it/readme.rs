//! What the documents tell people to type: the README's blocks are run as they stand, and every
//! command line in a document is one that the product understands.
//!
//! `netns` in the names puts these tests into the group that runs one at a time.

use crate::support::host::Host;
use crate::support::netns::Lab;
use crate::support::root_or_skip;
use crate::support::run::{self, Output};
use crate::support::sshd::Sshd;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// For a whole block. That by ssh copies a debug build of a few hundred megabytes twice.
const BLOCK: Duration = Duration::from_secs(240);
/// Words that stand for something which the command line itself parses.
const PLACEHOLDERS: [(&str, &str); 4] = [
    ("COUNT", "1"),
    ("SERIAL", "1"),
    ("N", "1"),
    ("ADDRESS:PORT", "[::]:4600"),
];
/// Commands that the README names as not there yet.
const NOT_YET: [&str; 1] = ["sync"];
/// Options of every command, and rsync's.
const OTHER_OPTIONS: [&str; 3] = ["--help", "--", "--delete"];
/// Written from the definitions of the command line.
const GENERATED: &str = "docs/cli-reference.md";

#[test]
fn netns_the_one_machine_block_runs_as_it_stands() {
    if !root_or_skip("a test host") {
        return;
    }
    let lab = Lab::new();
    let host = lab.host("newcomer").with_fanout().start();
    let output = run_block(&host, &block("one-machine")).success();
    let said = output.text();
    assert_eq!(
        said.matches("<?php echo \"hello\";").count(),
        2,
        "{}",
        output.describe()
    );
    assert_eq!(said.matches("up-to-date").count(), 2, "{said}");
    // Nothing but the directory that was made for it.
    let written = host.sh("ls -A /root /srv; ls -d /etc/fanout /var/lib/fanout 2>&1 || true");
    let written = written.success().text();
    assert_eq!(written.matches("No such file").count(), 2, "{written}");
    assert!(!written.contains("hello"), "{written}");
}

#[test]
fn netns_the_blocks_for_two_servers_run_as_they_stand() {
    if !root_or_skip("test hosts") {
        return;
    }
    let lab = Lab::new();
    let hub = lab.host("hub").with_fanout().start();
    let servers = ["web1", "web2"].map(|name| lab.host(name).with_fanout().start());
    prepare_hub(&hub, &servers);
    let script = block("web1 web2");
    for server in &servers {
        let output = run_block(server, &script.replace("web1", server.name())).success();
        let said = output.text();
        let tokens: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("fanout1-"))
            .collect();
        assert_eq!(tokens.len(), 1, "{}", output.describe());
        hub.write(format!("/root/{}.token", server.name()), tokens[0]);
    }
    let output = run_block(&hub, &block("hub")).success();
    assert!(
        output.error_text().contains("on 2 of 2 members"),
        "{}",
        output.describe()
    );
    for server in &servers {
        let found = server.run(&["cat", "/srv/platforms/drupal/web/index.php"]);
        assert_eq!(found.success().text(), "<?php\n");
    }
}

#[test]
fn netns_the_block_by_ssh_runs_as_it_stands() {
    if !root_or_skip("test hosts") {
        return;
    }
    let lab = Lab::new();
    let hub = lab.host("hub").with_fanout().start();
    let servers = ["web1", "web2"].map(|name| lab.plain_host(name));
    prepare_hub(&hub, &servers);
    let mut running = Vec::new();
    for server in &servers {
        server.run(&["mkdir", "-p", "/srv"]).success();
        server.add_user("admin", true);
        let sshd = Sshd::start(server);
        sshd.admit_as(&hub, "admin", &format!("{}.example.com", server.name()));
        running.push(sshd);
    }
    let output = run_block(&hub, &block("hub-ssh")).success();
    let said = output.error_text();
    assert!(said.contains("on 2 of 2 members"), "{}", output.describe());
    for server in &servers {
        let found = server.run(&["cat", "/srv/platforms/drupal/web/index.php"]);
        assert_eq!(found.success().text(), "<?php\n");
        // Installed for root, although nobody logged in as root.
        let owner = server.run(&["stat", "-c", "%U", "/usr/local/bin/fanout"]);
        assert_eq!(owner.success().text(), "root\n");
    }
}

/// The source that the README pushes, and the names of its servers.
fn prepare_hub(hub: &Host, servers: &[Host]) {
    let mut names = fs::read_to_string(hub.path("/etc/hosts")).unwrap();
    for server in servers {
        names += &format!("{} {}.example.com\n", server.address(), server.name());
    }
    hub.write("/etc/hosts", names);
    hub.write("/srv/src/drupal/web/index.php", "<?php\n");
    hub.write("/srv/src/drupal/vendor/autoload.php", "<?php\n");
}

#[test]
fn every_command_line_in_a_document_is_understood() {
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for (name, text) in documents() {
        for line in command_lines(&text) {
            // An example there is followed by what it does.
            let line = match name == GENERATED {
                true => line.trim().split("  ").next().unwrap_or_default(),
                false => &*line,
            };
            let Some(words) = words_of_fanout(line) else {
                continue;
            };
            if !seen.insert(words.clone()) {
                continue;
            }
            // Every word is looked at before the help is given.
            let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
            let output = run::run(command.args(&words).arg("--help").env_remove("FANOUT_DIR"));
            if output.code != Some(0) {
                problems.push(format!("{name}: {line}\n{}", output.error_text()));
            }
        }
    }
    assert!(seen.len() > 60, "only {} command lines seen", seen.len());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_option_that_a_document_names_exists() {
    let reference = fs::read_to_string(root().join(GENERATED)).unwrap();
    let options: BTreeSet<&str> = reference
        .split(|letter: char| !letter.is_ascii_lowercase() && letter != '-')
        .filter(|word| word.starts_with("--"))
        .collect();
    let mut problems = Vec::new();
    for (name, text) in documents() {
        // These are about the options of rsync and of the benchmark, too.
        let others = ["docs/tree-semantics.md", "docs/benchmarks.md"];
        if others.contains(&&*name) || name.starts_with("docs/decisions/") {
            continue;
        }
        for span in parts(&text).0 {
            let option = span.split([' ', '=']).next().unwrap_or_default();
            if option.starts_with("--")
                && !options.contains(option)
                && !OTHER_OPTIONS.contains(&option)
            {
                problems.push(format!("{name}: `{span}`"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn command_lines_are_found_wherever_they_are_written() {
    let text = "Say `fanout explain\nFX0201`, or `fanout`.\n\n    $ fanout push; echo\n\
        \n```console\n$ export X=1\n$ fanout agent invite | fanout add server a \\\n  --sudo &\n```\n";
    let lines: Vec<_> = command_lines(text)
        .iter()
        .filter_map(|line| words_of_fanout(line))
        .map(|words| words.join(" "))
        .collect();
    assert_eq!(
        lines,
        [
            "explain FX0201",
            "push",
            "agent invite",
            "add server a --sudo"
        ]
    );
    let of_cron = words_of_fanout("*/5 * * * * root /usr/local/bin/fanout resync -q");
    assert_eq!(of_cron.unwrap(), ["resync", "-q"]);
    assert_eq!(words_of_fanout("install fanout /usr/local/bin"), None);
}

/// Runs a block in one shell, as the README asks for. Its first failure ends it.
#[track_caller]
fn run_block(host: &Host, script: &str) -> Output {
    let mut shell = host.command("sh");
    run::run_within(shell.args(["-euc", script]), b"", BLOCK)
}

/// The commands of the README's block that is marked so.
#[track_caller]
pub(crate) fn block(mark: &str) -> String {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let opening = format!("<!-- run: {mark} -->\n```console\n");
    let (_, after) = readme
        .split_once(&opening)
        .unwrap_or_else(|| panic!("no block {mark} in README.md"));
    let (block, _) = after.split_once("```").expect("the block ends");
    commands_of(block).join("\n")
}

/// Lines without their prompt.
pub(crate) fn commands_of(block: &str) -> Vec<String> {
    let lines = block.lines();
    lines
        .map(|line| line.strip_prefix("$ ").unwrap_or(line).to_owned())
        .collect()
}

/// All documents for people, with their names.
pub(crate) fn documents() -> Vec<(String, String)> {
    let mut files: Vec<PathBuf> = ["docs", "docs/errors", "docs/decisions", "."]
        .iter()
        .flat_map(|directory| fs::read_dir(root().join(directory)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        (name.replace("./", ""), fs::read_to_string(&path).unwrap())
    };
    files.into_iter().map(read).collect()
}

/// Commands, one each, from code spans and from blocks of code.
fn command_lines(text: &str) -> Vec<String> {
    let (spans, code) = parts(text);
    let joined = code.join("\n").replace("\\\n", " ");
    let lines = joined
        .lines()
        .flat_map(|line| line.split(['|', ';', '&']))
        .map(str::to_owned);
    spans.into_iter().chain(lines).collect()
}

/// The code spans of a document, each on one line, and its lines of code.
pub(crate) fn parts(text: &str) -> (Vec<String>, Vec<&str>) {
    let (mut prose, mut code) = (String::new(), Vec::new());
    let mut in_block = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if in_block || line.starts_with("    ") {
            code.push(line);
        } else {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    let spans = prose.split('`').skip(1).step_by(2);
    let on_one_line = |span: &str| span.split_whitespace().collect::<Vec<_>>().join(" ");
    (spans.map(on_one_line).collect(), code)
}

/// The words after `fanout`, if that is the program which the line runs.
fn words_of_fanout(line: &str) -> Option<Vec<String>> {
    let words = shlex::split(line)?;
    let is_fanout = |word: &String| word == "fanout" || word == "/usr/local/bin/fanout";
    let at = words.iter().position(is_fanout)?;
    // A prompt, a schedule and its user, variables.
    let leads = |word: &String| {
        word == "$" || word == "root" || word.contains(['=', '*']) || word.parse::<u8>().is_ok()
    };
    if !words[..at].iter().all(leads) || words.len() == at + 1 {
        return None;
    }
    // A drawing, or a text that only begins with the name.
    let first = &words[at + 1];
    if first.starts_with(|letter: char| letter == '(' || letter.is_ascii_digit())
        || NOT_YET.contains(&first.as_str())
    {
        return None;
    }
    let words = words[at + 1..]
        .iter()
        .take_while(|word| !word.starts_with(['<', '>']));
    let filled = words.map(|word| {
        let placeholder = PLACEHOLDERS.iter().find(|(name, _)| name == word);
        placeholder.map_or(&**word, |(_, value)| value).to_owned()
    });
    Some(filled.collect())
}

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
