//! What git says about a source: its commit, and whether the tree differs from it.
//!
//! A source is somebody else's directory: its `.git/config` may name programs that git would run.
//! Git itself refuses repositories of other users; beyond that no lock is taken, nothing is asked,
//! and hooks and monitors stay off. Without git, or without a work tree at exactly that path,
//! there simply is no label.

use super::{Program, RunError};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

const TIMEOUT: Duration = Duration::from_secs(20);
/// The heads of the answer come first; of the list of changes only its being there counts.
const OUTPUT_BYTES: usize = 8 * 1024;
/// Digits of a commit that are shown.
const SHORT_DIGITS: usize = 12;

/// The commit that a work tree is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The full commit id.
    pub commit: String,
    /// The tree differs from the commit: changed, added or untracked files.
    pub is_dirty: bool,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.commit.get(..SHORT_DIGITS).unwrap_or(&self.commit))?;
        f.write_str(if self.is_dirty { "+dirty" } else { "" })
    }
}

/// Why there is no label although there is a work tree.
#[derive(Debug, Error)]
pub enum GitError {
    /// The work tree belongs to another user, and git was not told to trust it.
    #[error(
        "Git doesn't trust {0}, which belongs to another user \
         (`git config --global --add safe.directory {0}` would allow it)"
    )]
    NotTrusted(String),
    /// Git failed in another way.
    #[error("Can't ask git about {}", path.display())]
    Git {
        /// The source.
        path: PathBuf,
        /// What happened.
        source: RunError,
    },
}

/// The label of the work tree at `path`; `None` if there is none, or no git.
pub async fn label(path: &Path) -> Result<Option<Label>, GitError> {
    // A directory, or a file that names one; starting git to hear that there is none costs more
    // than a look.
    if path.join(".git").symlink_metadata().is_err() {
        return Ok(None);
    }
    let failed = |source| GitError::Git {
        path: path.to_owned(),
        source,
    };
    let output = match status(path).succeed().await {
        Ok(output) => output,
        Err(RunError::NotFound { .. }) => return Ok(None),
        Err(RunError::Failed { complaint, .. }) if complaint.contains("dubious ownership") => {
            return Err(GitError::NotTrusted(path.display().to_string()));
        }
        // That there is no source, others say better.
        Err(RunError::Failed { complaint, .. })
            if complaint.contains("not a git repository")
                || complaint.contains("cannot change to") =>
        {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    Ok(parse(&output.stdout))
}

fn status(path: &Path) -> Program {
    let mut program = Program::new("git")
        .args(["--no-optional-locks", "--no-pager"])
        .args([
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.hooksPath=/dev/null",
        ])
        .args(["-c", "submodule.recurse=false", "-C"])
        .arg(path)
        .args(["status", "--porcelain=v2", "--branch", "-z"])
        .args(["--untracked-files=normal", "--ignore-submodules=none"])
        .timeout(TIMEOUT)
        .output_limit(OUTPUT_BYTES)
        .cut_output();
    // A hook or a deploy script that calls us has its own repository in the environment.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GIT_") {
            program = program.env_remove(name);
        }
    }
    // A repository further up, such as one for /srv as a whole, says nothing about this tree.
    if let Some(parent) = path.parent() {
        program = program.env("GIT_CEILING_DIRECTORIES", parent);
    }
    program
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("LC_ALL", "C")
}

/// Reads `git status --porcelain=v2 --branch -z`: heads begin with `#`, all else is a change.
fn parse(answer: &[u8]) -> Option<Label> {
    let mut records = answer.split(|&byte| byte == 0).filter(|r| !r.is_empty());
    let is_head = |record: &&[u8]| record.starts_with(b"# ");
    let commit = records
        .clone()
        .take_while(is_head)
        .find_map(|record| record.strip_prefix(b"# branch.oid "))?;
    let commit = std::str::from_utf8(commit).ok()?;
    if !commit.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        // "(initial)": no commit yet.
        return None;
    }
    Some(Label {
        commit: commit.to_owned(),
        is_dirty: records.any(|record| !is_head(&record)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

    #[test]
    fn a_label_is_the_commit_and_whether_the_tree_differs() {
        let clean = format!("# branch.oid {COMMIT}\0# branch.head main\0");
        let label = parse(clean.as_bytes()).unwrap();
        assert_eq!(label.to_string(), "4b825dc642cb");
        let dirty = format!("{clean}? new.php\0");
        assert_eq!(
            parse(dirty.as_bytes()).unwrap().to_string(),
            "4b825dc642cb+dirty"
        );
        assert_eq!(parse(b"# branch.oid (initial)\0? a\0"), None);
        assert_eq!(parse(b""), None);
    }

    async fn git(directory: &Path, arguments: &[&str]) {
        Program::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.com", "-C"])
            .arg(directory)
            .args(arguments.iter().copied())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .succeed()
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_work_tree_is_labelled_and_what_lies_below_another_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        std::fs::create_dir_all(tree.join("web")).unwrap();
        assert_eq!(label(&tree).await.unwrap(), None);
        git(&tree, &["init", "-q"]).await;
        assert_eq!(label(&tree).await.unwrap(), None, "no commit yet");
        std::fs::write(tree.join("web/index.php"), "<?php").unwrap();
        assert_eq!(label(&tree).await.unwrap(), None);
        git(&tree, &["add", "."]).await;
        git(&tree, &["commit", "-q", "-m", "first"]).await;
        let clean = label(&tree).await.unwrap().unwrap();
        assert_eq!(clean.commit.len(), 40);
        assert!(!clean.is_dirty);
        for number in 0..2_000 {
            std::fs::write(tree.join(format!("untracked-file-{number}")), "").unwrap();
        }
        let dirty = label(&tree).await.unwrap().unwrap();
        assert_eq!(dirty.commit, clean.commit);
        assert!(dirty.is_dirty);
        assert_eq!(label(&tree.join("web")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_repository_cannot_make_us_run_its_programs() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path();
        git(tree, &["init", "-q"]).await;
        let proof = tree.join(".git/proof");
        let monitor = format!("touch {}", proof.display());
        git(tree, &["config", "core.fsmonitor", &monitor]).await;
        std::fs::write(tree.join("a"), "").unwrap();
        label(tree).await.unwrap();
        assert!(!proof.exists());
    }
}
