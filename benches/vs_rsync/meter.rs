//! What a transfer costs: time, processor time of all processes involved at both ends, the largest
//! process at each end, bytes on the wire.
//!
//! Processor time is that of control groups, user and system, so that no short-lived child is
//! missed; the kernel's own threads (write-back, loop devices) are in nobody's. Memory is the
//! largest `VmHWM` that a look every 20 ms finds in the same groups.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(20);
/// Write-back of pages, closing of connections: what goes on after the command's end counts too.
const QUIET: Duration = Duration::from_millis(100);
const QUIET_CPU_US: u64 = 2_000;
/// LIMIT: how long what goes on after the end is waited for.
const MOST_AFTER: Duration = Duration::from_secs(10);
const TICKS_PER_SECOND: f64 = 100.0;

/// Values of one run by name, units last.
pub(crate) type Values = BTreeMap<&'static str, f64>;

/// The control groups of one side.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    pub(crate) hub: PathBuf,
    pub(crate) members: PathBuf,
}

/// A measurement under way.
pub(crate) struct Meter {
    groups: Groups,
    uplink: &'static str,
    before: Counters,
    start: Instant,
    stop: Arc<AtomicBool>,
    hub_peak_kib: Arc<AtomicU64>,
    member_peak_kib: Arc<AtomicU64>,
    looking: JoinHandle<()>,
}

#[derive(Clone, Copy)]
struct Counters {
    hub_us: u64,
    members_us: u64,
    wire_bytes: u64,
    busy_ticks: u64,
}

impl Meter {
    /// Begins. What runs in the groups already starts over with its memory's peak.
    pub(crate) fn start(groups: &Groups, uplink: &'static str) -> Result<Self> {
        for pid in pids(&groups.members) {
            // "5" resets the peak to what is resident now.
            let _ended = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
        let stop = Arc::new(AtomicBool::new(false));
        let hub_peak_kib = Arc::new(AtomicU64::new(0));
        let member_peak_kib = Arc::new(AtomicU64::new(0));
        let looking = {
            let (groups, stop) = (groups.clone(), Arc::clone(&stop));
            let (hub, members) = (Arc::clone(&hub_peak_kib), Arc::clone(&member_peak_kib));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    hub.fetch_max(largest_kib(&groups.hub), Ordering::Relaxed);
                    members.fetch_max(largest_kib(&groups.members), Ordering::Relaxed);
                    thread::sleep(LOOK);
                }
                members.fetch_max(largest_kib(&groups.members), Ordering::Relaxed);
            })
        };
        let before = Counters::read(groups, uplink)?;
        Ok(Self {
            groups: groups.clone(),
            uplink,
            before,
            start: Instant::now(),
            stop,
            hub_peak_kib,
            member_peak_kib,
            looking,
        })
    }

    /// The command is through: stops the clock, waits until its servers are quiet, and counts.
    pub(crate) fn finish(self) -> Result<Values> {
        let wall = self.start.elapsed();
        let busy = busy_ticks()?.saturating_sub(self.before.busy_ticks);
        let own = |now: &Counters| {
            now.hub_us - self.before.hub_us + now.members_us - self.before.members_us
        };
        let at_end = Counters::read(&self.groups, self.uplink)?;
        let start = Instant::now();
        let mut now = at_end;
        loop {
            thread::sleep(QUIET);
            let later = Counters::read(&self.groups, self.uplink)?;
            let is_quiet = own(&later) - own(&now) < QUIET_CPU_US;
            now = later;
            if is_quiet || start.elapsed() > MOST_AFTER {
                break;
            }
        }
        self.stop.store(true, Ordering::Relaxed);
        ensure!(
            self.looking.join().is_ok(),
            "the thread that looks panicked"
        );
        let seconds = |us: u64| us as f64 / 1e6;
        let hub = seconds(now.hub_us - self.before.hub_us);
        let members = seconds(now.members_us - self.before.members_us);
        // Other programs of this machine, with the kernel's own threads and the link, in cores.
        let others = busy as f64 / TICKS_PER_SECOND - seconds(own(&at_end));
        Ok(Values::from([
            ("wall_s", wall.as_secs_f64()),
            ("cpu_s", hub + members),
            ("hub_cpu_s", hub),
            ("members_cpu_s", members),
            (
                "hub_peak_kib",
                self.hub_peak_kib.load(Ordering::Relaxed) as f64,
            ),
            (
                "member_peak_kib",
                self.member_peak_kib.load(Ordering::Relaxed) as f64,
            ),
            (
                "wire_bytes",
                (now.wire_bytes - self.before.wire_bytes) as f64,
            ),
            ("others_cores", (others / wall.as_secs_f64()).max(0.0)),
        ]))
    }
}

impl Counters {
    fn read(groups: &Groups, uplink: &str) -> Result<Self> {
        Ok(Self {
            hub_us: cpu_us(&groups.hub)?,
            members_us: cpu_us(&groups.members)?,
            wire_bytes: interface_bytes(uplink)?,
            busy_ticks: busy_ticks()?,
        })
    }
}

/// Ends everything in a group.
pub(crate) fn kill_all(group: &Path) {
    let _gone = fs::write(group.join("cgroup.kill"), "1");
}

fn cpu_us(group: &Path) -> Result<u64> {
    let text = fs::read_to_string(group.join("cpu.stat"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    Ok(line.context("no usage_usec in cpu.stat")?.parse()?)
}

/// Received and sent, as the interface counts them. Batches that the kernel hands over whole have
/// one header where a wire would carry one for each packet, on either side.
fn interface_bytes(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/self/net/dev")?;
    let found = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    let fields: Vec<u64> = found
        .context("no such interface")?
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    ensure!(fields.len() > 8, "an unknown /proc/net/dev");
    Ok(fields[0] + fields[8])
}

/// What all processors together did since the boot, but for idling.
fn busy_ticks() -> Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("an empty /proc/stat")?;
    let fields: Vec<u64> = line
        .split_whitespace()
        .skip(1)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    // user nice system idle iowait irq softirq
    Ok(fields.iter().take(7).sum::<u64>() - fields[3] - fields[4])
}

fn pids(group: &Path) -> Vec<String> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn largest_kib(group: &Path) -> u64 {
    let peak = |pid: String| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().strip_suffix(" kB")?.trim().parse().ok()
    };
    pids(group).into_iter().filter_map(peak).max().unwrap_or(0)
}
