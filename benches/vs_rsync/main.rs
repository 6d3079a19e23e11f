//! fanout next to rsync, and to the other ways to bring one tree to many servers.
//!
//! One command: `cargo bench --bench vs_rsync -- [CASES] [--runs N] [--quick] [--out DIR]`, as root.
//! `docs/benchmarks.md` says what is measured and how. Everything happens in namespaces and on a
//! tmpfs of this program's own (`sandbox`), and is gone when it ends, however it ends.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers that runs others, writes to the disk and speaks itself"
)]

mod cases;
mod corpus;
mod debian;
mod disk;
mod fanout_side;
mod floor;
mod ground;
mod keys;
mod lab;
mod link;
mod meter;
mod no_sync;
mod options;
mod plot;
mod race;
mod report;
mod rivals;
mod same;
mod sandbox;
mod shell;

use anyhow::Result;
use clap::Parser;
use options::Options;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == no_sync::WORD) {
        return complain(no_sync::become_program(arguments));
    }
    let options = Options::parse();
    if options.list {
        return complain(cases::chosen(&options).map(|_| ExitCode::SUCCESS));
    }
    complain(if sandbox::is_inside() {
        run(&options)
    } else {
        debian::prepare(&options).and_then(|()| sandbox::enter())
    })
}

fn run(options: &Options) -> Result<ExitCode> {
    let sandbox = sandbox::Sandbox::set_up(options)?;
    let mut report = report::Report::begin(options)?;
    let mut all_good = true;
    for case in cases::chosen(options)? {
        eprintln!("{}: {}", case.id, case.title);
        let result = cases::run(&case, &sandbox, options);
        all_good &= result.error.is_none();
        if let Some(error) = &result.error {
            eprintln!("{}: failed: {error}", case.id);
        }
        report.add(result);
        // After each case, so that a run that is cut short leaves what it has.
        report.write(options)?;
    }
    println!("{}", report.markdown());
    Ok(if all_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn complain(result: Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("vs_rsync: {error:#}");
        ExitCode::FAILURE
    })
}
