//! Requests about a tree that isn't open: each takes the tree, does one thing, and lets go of it.

use super::foreign::ForeignPaths;
use super::generations::collect;
use super::held::{Known, shared};
use super::host::Claim;
use super::keeper::Keeper;
use super::live_index::{Unchanged, load_index, refresh_index, save_index};
use super::record::{TreeRecord, Vote};
use super::refusal::{of_commit, of_fs, of_place};
use super::removal::{delete_tree, forget};
use super::staged::{carry_out, settled};
use super::transaction::Committed;
use crate::codes::{Code, Problem};
use crate::fs::walk::{Verdict, walk};
use crate::fs::{Dir, FsError};
use std::collections::BTreeSet;
use std::sync::Arc;
use sync_proto::commit::Witness;
use sync_proto::filter::{Preserve, Scope};
use sync_proto::path::{RelPath, escape};
use sync_proto::wire::{Decision, Layout, Notice, Survey, TreeKey, TxnKey};

/// Carries out the answer to a doubt.
pub fn settle(
    claim: &Claim,
    txn: TxnKey,
    decision: Decision,
) -> Result<Option<Committed>, Problem> {
    let mut participant = settled(claim)?;
    carry_out(claim, &mut participant, txn, decision, Known::Nothing)
}

/// What is there.
pub fn survey(claim: &Claim, tree: TreeKey) -> Result<Survey, Problem> {
    let place = &claim.place;
    let record = TreeRecord::load(place).map_err(|error| of_place(&error))?;
    let vote = Vote::load(place).map_err(|error| of_place(&error))?;
    let voted = vote.as_ref().map(|vote| (vote.txn, vote.is_forward));
    let witness = Witness::of(voted, record.last_committed);
    let preserve = record
        .preserve
        .union(&claim.preserve)
        .unwrap_or_else(|_| record.preserve.clone());
    let kept_bytes = ["stage", "undo", "gen", "overwritten"]
        .iter()
        .filter(|name| **name != "gen" || place.layout() == Layout::Switched)
        .map(|name| bytes_below(place.state(), name))
        .sum::<Result<u64, FsError>>()
        .map_err(|error| of_fs(&error))?;
    Ok(Survey {
        bound: !record.is_forgotten,
        root: claim.shown.clone().into_bytes(),
        fence: record.fence,
        live: record.live,
        generations: record
            .generations
            .iter()
            .map(|kept| kept.generation.clone())
            .collect(),
        last_committed: witness.last_committed,
        doubt: vote
            .filter(|vote| witness.doubt == Some(vote.txn))
            .map(|vote| vote.doubt(tree)),
        preserve: preserve.to_lines(),
        kept_bytes,
    })
}

/// Bytes of files below a directory of the state, each file counted once.
fn bytes_below(state: &Dir, name: &str) -> Result<u64, FsError> {
    let name = sync_proto::path::Name::parse(name.as_bytes())
        .map_err(|_| FsError::bad_name(name.as_bytes()))?;
    let Some(dir) = state.try_open_dir(&name)? else {
        return Ok(0);
    };
    let walked = walk(&dir, |_, _, _| Verdict::Descend)?;
    let mut seen = std::collections::HashSet::new();
    Ok(walked
        .dirs
        .iter()
        .flat_map(|directory| &directory.entries)
        .filter(|entry| entry.stat.is_file())
        // Generations share their files with the live one: what only they have is counted.
        .filter(|entry| entry.stat.nlink == 1 || seen.insert(entry.stat.ino))
        .map(|entry| entry.stat.size)
        .sum())
}

/// Lets go of all generations but these.
pub fn keep(claim: &Claim, serials: &[u64], scope: Option<Scope>) -> Result<Vec<Notice>, Problem> {
    settled(claim)?;
    let place = &claim.place;
    let keeper = keeper(claim, scope)?;
    let collected = collect(place, serials, &keeper, claim.overwritten.as_ref())
        .map_err(|error| of_commit(&error))?;
    if collected.is_unlinked {
        // Files that were shared with a generation that went have another ctime now.
        let renewed = load_index(place)
            .map_err(|error| of_place(&error))?
            .and_then(|index| refresh_index(place, &index, Unchanged::None).transpose())
            .transpose()
            .map_err(|error| of_fs(&error))?;
        if let Some(index) = renewed {
            save_index(place, &index).map_err(|error| of_place(&error))?;
        }
    }
    Ok(collected.notices)
}

/// The rules of a tree that no session has opened.
fn keeper(claim: &Claim, scope: Option<Scope>) -> Result<Keeper, Problem> {
    let record = TreeRecord::load(&claim.place).map_err(|error| of_place(&error))?;
    let preserve = record
        .preserve
        .union(&claim.preserve)
        .map_err(|error| Problem::from_error(Code::RuleInvalid, &error))?;
    let exclude = scope.map(|scope| scope.exclude).unwrap_or_default();
    let mut keeper = Keeper {
        scope: Scope { exclude, preserve },
        foreign: ForeignPaths::load(&claim.place).map_err(|error| of_place(&error))?,
        shared: BTreeSet::new(),
    };
    keeper.shared = shared(&claim.place, &keeper).map_err(|error| of_fs(&error))?;
    Ok(keeper)
}

/// Counts what a preserve rule protects, and drops it. In an adopted root nobody can tell what of
/// it was there before: all of it is foreign from then on.
pub fn release(claim: &Claim, rule: &str, dry_run: bool) -> Result<(u64, u64), Problem> {
    let place = &claim.place;
    let mut record = TreeRecord::load(place).map_err(|error| of_place(&error))?;
    let invalid = |error| Problem::from_error(Code::RuleInvalid, &error);
    let released = Preserve::parse(&[rule]).map_err(invalid)?;
    let lines = released.to_lines();
    if !record
        .preserve
        .to_lines()
        .iter()
        .any(|line| lines.contains(line))
    {
        let message = format!(
            "`{}` is not among the rules of this tree",
            escape(rule.as_bytes())
        );
        return Err(Problem::new(Code::RuleInvalid, message));
    }
    let (mut entries, mut bytes) = (0, 0);
    let mut covered = Vec::new();
    if let Some(live) = place.live().map_err(|error| of_fs(&error))? {
        let walked = walk(&live, |_, _, _| Verdict::Descend).map_err(|error| of_fs(&error))?;
        for directory in &walked.dirs {
            for entry in &directory.entries {
                let path = directory.path.join(&entry.name);
                let is_covered = |path: &RelPath| released.covers(path).is_some();
                if let Some(path) = path.ok().filter(is_covered) {
                    covered.push(path);
                    entries += 1;
                    bytes += if entry.stat.is_file() {
                        entry.stat.size
                    } else {
                        0
                    };
                }
            }
        }
    }
    if !dry_run {
        if record.adopted && record.live.is_some() {
            // ORDER: what may be from before the adoption is foreign before it is unprotected.
            let known = ForeignPaths::load(place).map_err(|error| of_place(&error))?;
            covered.extend_from_slice(known.tops());
            let foreign = ForeignPaths::new(covered);
            foreign.save(place).map_err(|error| of_place(&error))?;
        }
        let left = record.preserve.to_lines();
        let left: Vec<String> = left
            .into_iter()
            .filter(|line| !lines.contains(line))
            .collect();
        record.preserve = Preserve::parse(&left).map_err(invalid)?;
        record.save(place).map_err(|error| of_place(&error))?;
    }
    Ok((entries, bytes))
}

/// Lets go of a tree; everything stays.
pub fn let_go(claim: &Claim) -> Result<Vec<Notice>, Problem> {
    settled(claim)?;
    forget(&claim.place).map_err(|error| of_commit(&error))
}

/// Removes a tree, if `root` is its root as the administrator knows it.
pub fn delete(claim: Claim, root: &[u8], scope: Option<Scope>) -> Result<Vec<Notice>, Problem> {
    if root != claim.root {
        let message = format!(
            "The tree lies at `{}`, not at `{}`",
            escape(&claim.root),
            escape(root)
        );
        return Err(Problem::new(Code::TreeBoundElsewhere, message));
    }
    settled(&claim)?;
    let keeper = keeper(&claim, scope)?;
    let place = Arc::try_unwrap(claim.place)
        .map_err(|_| Problem::new(Code::Bug, "The tree is still in use by its own session"))?;
    delete_tree(place, &keeper).map_err(|error| of_commit(&error))
}
