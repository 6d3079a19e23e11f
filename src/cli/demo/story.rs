//! The steps: each is a public command on real processes, timed, and then checked on the disk.

use super::corpus;
use super::machines::{Machines, PLATFORM};
use super::place::Place;
use super::release::{Extent, change, next_release};
use super::report::{Step, Summary};
use super::rsync::{Rsync, Transfers};
use super::snapshot::Snapshot;
use super::{disk, in_background};
use crate::cli::args::DemoArgs;
use crate::cli::error::CommandError;
use crate::cli::human;
use crate::cli::ui::Ui;
use crate::codes::{Code, Exit};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SEED: u64 = 1;
/// Exit codes of a push that some members had no part in.
const DONE_OR_PARTIAL: [i32; 2] = [Exit::Done.number() as i32, Exit::Partial.number() as i32];

struct Story<'a> {
    ui: &'a Ui,
    machines: Machines,
    rsync: Option<Rsync>,
    source: PathBuf,
    copies: Vec<PathBuf>,
    steps: Vec<Step>,
}

/// Tells the whole story. Whatever doesn't end as it must is an error.
pub(super) async fn tell(ui: &Ui, args: &DemoArgs, place: &Place) -> Result<(), CommandError> {
    let source = place.path().join("source");
    prepare_source(ui, args, place, &source).await?;
    let first = snapshot(&source).await?;
    place.check_space(first.content_bytes, first.files, args.members)?;
    ui.status(format!(
        "Starting a hub and {}.",
        human::counted(args.members.into(), "member", "members")
    ));
    let machines = Machines::start(place.path(), args.members, &source).await?;
    let copies = place.make_copies(args.members)?;
    let mut story = Story {
        ui,
        machines,
        rsync: Rsync::find().await,
        source,
        copies,
        steps: Vec::new(),
    };
    story.run(&first).await?;
    story.machines.stop().await;
    let version = story.rsync.as_ref().map(|rsync| rsync.version.as_str());
    let summary = Summary {
        files: first.files,
        directories: first.directories,
        content_bytes: first.content_bytes,
        members: story.copies.len(),
        rsync: version,
        ..Summary::new(&story.steps)
    };
    if ui.is_json() {
        ui.json(&summary);
    } else {
        ui.out(format!("\n{}\n\n{}", summary.table(), summary.footnote()));
    }
    Ok(())
}

async fn prepare_source(
    ui: &Ui,
    args: &DemoArgs,
    place: &Place,
    source: &std::path::Path,
) -> Result<(), CommandError> {
    let (to, files) = (source.to_owned(), args.files as usize);
    if let Some(from) = args.platform.clone() {
        ui.status(format!("Copying {}.", from.display()));
        let others = in_background(move || disk::copy_tree(&from, &to)).await?;
        if others > 0 {
            ui.warn(format!(
                "{} left out: the demo shows files, directories and symlinks only",
                human::counted(others as u64, "entry was", "entries were")
            ));
        }
    } else {
        place.check_space(files as u64 * 5_000, files as u64, args.members)?;
        ui.status("Generating a platform.");
        in_background(move || corpus::generated_platform(&to, files, SEED)).await?;
    }
    Ok(())
}

impl Story<'_> {
    async fn run(&mut self, first: &Snapshot) -> Result<(), CommandError> {
        self.first_push(first).await?;
        let second = self.push_a_release().await?;
        self.push_nothing(&second).await?;
        let third = self.push_with_a_crash(&second).await?;
        self.catch_up(&third).await?;
        self.roll_back(&second).await?;
        self.verify(&second).await
    }

    async fn first_push(&mut self, first: &Snapshot) -> Result<(), CommandError> {
        let (elapsed, result) = self.timed(&["push", "platform", PLATFORM]).await?;
        self.expect("first push", &result, "committed")?;
        self.check("the first push", first, None).await?;
        let rsync = self.rsync_to(None).await?;
        let step = Step::new("first push", elapsed, &result).with_rsync(rsync);
        let text = format!(
            "The first push put {} ({}) on every member in {}, sending {} to each.",
            human::counted(first.files, "file", "files"),
            human::bytes(first.content_bytes),
            human::time(elapsed),
            human::bytes(step.sent_bytes / self.copies.len() as u64),
        );
        self.tell(step.saying(text));
        Ok(())
    }

    async fn push_a_release(&mut self) -> Result<Snapshot, CommandError> {
        let source = self.source.clone();
        let changed = in_background(move || next_release(&source, SEED + 1)).await?;
        let second = snapshot(&self.source).await?;
        let (elapsed, result) = self.timed(&["push", "platform", PLATFORM]).await?;
        self.expect("push of a release", &result, "committed")?;
        self.check("the push of a release", &second, None).await?;
        let rsync = self.rsync_to(None).await?;
        let step = Step::new("push of a release", elapsed, &result).with_rsync(rsync);
        let window = step.commit_window_us.map_or(String::new(), |us| {
            let window = human::time(Duration::from_micros(us));
            format!("; all members switched within {window}")
        });
        let text = format!(
            "A release changed {} and moved a directory; it was out in {}{window}.",
            human::counted(changed as u64, "file", "files"),
            human::time(elapsed),
        );
        self.tell(step.saying(text));
        Ok(second)
    }

    async fn push_nothing(&mut self, second: &Snapshot) -> Result<(), CommandError> {
        let (elapsed, result) = self.timed(&["push", "platform", PLATFORM]).await?;
        self.expect("push of nothing", &result, "up-to-date")?;
        self.check("the push of nothing", second, None).await?;
        let step = Step::new("push of nothing", elapsed, &result);
        if step.content_bytes > 0 {
            return Err(wrong(format!(
                "A push of nothing sent {} of content",
                human::bytes(step.content_bytes)
            )));
        }
        let rsync = self.rsync_to(None).await?;
        let text = format!(
            "A push of nothing took {} and sent no content.",
            human::time(elapsed)
        );
        self.tell(step.with_rsync(rsync).saying(text));
        Ok(())
    }

    /// The last member is killed while it takes in a large release. Depending on the policy the
    /// others go on or nobody switches; in the second case they are pushed to without it.
    async fn push_with_a_crash(&mut self, second: &Snapshot) -> Result<Snapshot, CommandError> {
        let source = self.source.clone();
        let changed = in_background(move || change(&source, SEED + 2, Extent::LARGE)).await?;
        let third = snapshot(&self.source).await?;
        let victim = self.copies.len() - 1;
        let name = self.machines.names()[victim].clone();
        let at_work = |line: &Value| {
            line["member"] == name.as_str()
                && (matches!(line["event"].as_str(), Some("sent" | "staged"))
                    || matches!(line["phase"].as_str(), Some("receiving" | "staging")))
        };
        let start = Instant::now();
        let words = ["push", "platform", PLATFORM];
        let (result, killed) = self.machines.hub_killing(&words, victim, at_work).await?;
        let elapsed = start.elapsed();
        if !killed || outcome(&result, &name) == Some("committed") {
            return Err(wrong(format!(
                "The push was over before {name} could be killed: {result}"
            )));
        }
        let went_on = self
            .names()
            .any(|one| outcome(&result, one) == Some("committed"));
        let step = Step::new("push, a member killed", elapsed, &result);
        if went_on {
            self.check("the push with a crash", &third, Some(&|at| at != victim))
                .await?;
            self.check("the crash", second, Some(&|at| at == victim))
                .await?;
            let rsync = self.rsync_to(Some(&|at| at != victim)).await?;
            let text = format!(
                "While {} were on their way, {name} was killed: the others switched in {}, it \
                 stayed whole at the old release.",
                human::counted(changed as u64, "changed file", "changed files"),
                human::time(elapsed),
            );
            self.tell(step.with_rsync(rsync).saying(text));
            return Ok(third);
        }
        self.check("the aborted push", second, None).await?;
        let text = format!(
            "While {} were on their way, {name} was killed: after {}, most of it spent waiting for \
             it, the push was called off and nobody switched.",
            human::counted(changed as u64, "changed file", "changed files"),
            human::time(elapsed),
        );
        self.tell(step.saying(text));
        self.push_without(victim, &name, second, &third).await?;
        Ok(third)
    }

    async fn push_without(
        &mut self,
        victim: usize,
        name: &str,
        second: &Snapshot,
        third: &Snapshot,
    ) -> Result<(), CommandError> {
        if self.copies.len() == 1 {
            // There is nobody else; the push is repeated when it is back.
            return Ok(());
        }
        let start = Instant::now();
        let words = ["push", "platform", PLATFORM];
        let result = self.machines.hub_exits(&words, &DONE_OR_PARTIAL).await?;
        let elapsed = start.elapsed();
        self.check("the push without it", third, Some(&|at| at != victim))
            .await?;
        self.check("the push without it", second, Some(&|at| at == victim))
            .await?;
        let rsync = self.rsync_to(Some(&|at| at != victim)).await?;
        let step = Step::new("push without it", elapsed, &result).with_rsync(rsync);
        let text = format!(
            "Pushed again, the others switched in {}, using what they had staged already; {name} \
             is stale and still serves the former one.",
            human::time(elapsed)
        );
        self.tell(step.saying(text));
        Ok(())
    }

    async fn catch_up(&mut self, third: &Snapshot) -> Result<(), CommandError> {
        let victim = self.copies.len() - 1;
        let name = self.machines.names()[victim].clone();
        self.machines.run_agent(victim).await?;
        let missed = self.steps.last().map(|step| step.step) == Some("push, a member killed");
        let is_alone = victim == 0 && missed;
        let words: &[&str] = if is_alone {
            &["push", "platform", PLATFORM]
        } else {
            &["resync"]
        };
        let (elapsed, result) = self.timed(words).await?;
        self.check("the resync", third, None).await?;
        let rsync = self.rsync_to(Some(&|at| at == victim)).await?;
        let step = Step::new("resync", elapsed, &result).with_rsync(rsync);
        let text = format!(
            "Back again, {name} was brought to the desired generation in {}, from the hub's depot: \
             resync publishes nothing new.",
            human::time(elapsed)
        );
        self.tell(step.saying(text));
        Ok(())
    }

    async fn roll_back(&mut self, second: &Snapshot) -> Result<(), CommandError> {
        let (elapsed, result) = self.timed(&["rollback", "platform", PLATFORM]).await?;
        self.expect("rollback", &result, "committed")?;
        self.check("the rollback", second, None).await?;
        let step = Step::new("rollback", elapsed, &result);
        let text = format!(
            "The rollback took every member to the release before in {}, with {} of content from \
             the network. rsync has no way back.",
            human::time(elapsed),
            human::bytes(step.content_bytes),
        );
        self.tell(step.saying(text));
        Ok(())
    }

    async fn verify(&mut self, second: &Snapshot) -> Result<(), CommandError> {
        let words = ["verify", "platform", PLATFORM, "--level", "content"];
        let (elapsed, result) = self.timed(&words).await?;
        let members = result["members"].as_array().into_iter().flatten();
        let clean = members.filter(|one| one["state"] == "clean").count();
        if clean != self.copies.len() {
            return Err(wrong(format!("Verify found a difference: {result}")));
        }
        self.check("the verify", second, None).await?;
        let rsync = match &self.rsync {
            Some(rsync) => Some(rsync.compare(&self.source, &self.copies).await),
            None => None,
        };
        let rsync = rsync.transpose().map_err(of_rsync)?;
        let step = Step::new("verify", elapsed, &result).with_rsync(rsync);
        let text = format!(
            "Verify read every byte on every member in {} and found no difference.",
            human::time(elapsed)
        );
        self.tell(step.saying(text));
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.machines.roots().map(|(name, _)| name)
    }

    fn tell(&mut self, step: Step) {
        if self.ui.is_json() {
            self.ui.json(&step);
        } else {
            self.ui.out(&step.text);
        }
        self.steps.push(step);
    }

    async fn timed(&self, words: &[&str]) -> Result<(Duration, Value), CommandError> {
        let start = Instant::now();
        let result = self.machines.hub(words).await?;
        Ok((start.elapsed(), result))
    }

    /// The same transfer by rsync, to the copies that `which` names, or to all.
    async fn rsync_to(
        &self,
        which: Option<&(dyn Fn(usize) -> bool + Sync)>,
    ) -> Result<Option<Transfers>, CommandError> {
        let Some(rsync) = &self.rsync else {
            return Ok(None);
        };
        let copies = self.copies.iter().enumerate();
        let chosen = copies.filter(|(at, _)| which.is_none_or(|which| which(*at)));
        let copies: Vec<PathBuf> = chosen.map(|(_, path)| path.clone()).collect();
        let transfers = rsync.push(&self.source, &copies).await.map_err(of_rsync)?;
        Ok(Some(transfers))
    }

    fn expect(&self, step: &str, result: &Value, wanted: &str) -> Result<(), CommandError> {
        for name in self.names() {
            let found = outcome(result, name).unwrap_or("missing");
            if found != wanted {
                return Err(wrong(format!(
                    "After the {step} {name} is {found} instead of {wanted}: {result}"
                )));
            }
        }
        Ok(())
    }

    /// Reads the trees of the members that `which` names, or of all.
    async fn check(
        &self,
        after: &str,
        wanted: &Snapshot,
        which: Option<&(dyn Fn(usize) -> bool + Sync)>,
    ) -> Result<(), CommandError> {
        for (at, (name, root)) in self.machines.roots().enumerate() {
            if which.is_some_and(|which| !which(at)) {
                continue;
            }
            let found = snapshot(&root).await?;
            let differences = wanted.differences(&found);
            if !differences.is_empty() {
                return Err(wrong(format!(
                    "After {after} {name} differs: {}",
                    differences.join("; ")
                )));
            }
        }
        Ok(())
    }
}

async fn snapshot(root: &std::path::Path) -> Result<Snapshot, CommandError> {
    let root = root.to_owned();
    in_background(move || Snapshot::read(&root)).await
}

fn outcome<'a>(result: &'a Value, member: &str) -> Option<&'a str> {
    let mut members = result["members"].as_array()?.iter();
    members.find(|one| one["name"] == member)?["outcome"].as_str()
}

fn wrong(message: String) -> CommandError {
    CommandError::new(Code::Bug, message).hint("Run the demo with --keep to look at what is there")
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn of_rsync(error: crate::proc::RunError) -> CommandError {
    CommandError::from_error(Code::Bug, &error)
}
