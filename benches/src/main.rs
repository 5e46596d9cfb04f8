//! `cargo xtask bench store`: hotwarm beside Redis, on this machine, with one load client for both.
//!
//! Writes are durable on two nodes on both sides; reads are compared with a Redis that persists nothing. The runs of
//! both sides alternate, and what is told is the median. Figures go to standard output; what they depend on (versions,
//! machine, file system) and the progress go to standard error. A machine that does other work measures that too.

mod case;
mod failure;
mod hotwarm;
mod load;
mod machine;
mod process;
mod redis;
mod report;

use case::{CASES, Case};
use clap::{Args, Parser, Subcommand};
use failure::Failure;
use hotwarm::HotwarmGroup;
use load::{Load, Measured};
use process::Folder;
use redis::{DurableRedis, MemoryRedis};
use report::{Report, Side};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Measures of hotwarm.
#[derive(Debug, Parser)]
#[command(name = "hotwarm-bench", version, max_term_width = 100)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The store beside Redis: SET, INCR and GET from 50 connections
    Store(Store),
}

#[derive(Debug, Args)]
struct Store {
    /// Runs of each case on each side; the median is told
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=101))]
    runs: u32,
    /// Length of one run, in seconds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Only these cases
    #[arg(long = "case", value_name = "CASE", value_parser = case::find)]
    cases: Vec<Case>,
    /// A folder on a disk, for a new folder with the data of all servers [default: the build's folder]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The hotwarm to measure [default: the one beside this program]
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let Command::Store(flags) = Flags::parse().command;
    match store(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("hotwarm-bench: {failure}");
            ExitCode::from(2)
        }
    }
}

/// Where each side of the cases is reached.
struct Sides {
    hotwarm: SocketAddr,
    durable: SocketAddr,
    memory: SocketAddr,
}

impl Sides {
    /// One run of a case on a side.
    fn measure(&self, case: Case, side: Side, duration: Duration) -> Result<Measured, Failure> {
        let writes = case.operation.writes();
        let address = match side {
            Side::Hotwarm => self.hotwarm,
            Side::Redis if writes => self.durable,
            Side::Redis => self.memory,
        };
        // Redis acknowledges before its replica has the write; hotwarm does not need to be asked.
        Load { address, case, wait: writes && side == Side::Redis, duration }.run()
    }
}

fn store(flags: &Store) -> Result<(), Failure> {
    let program = match &flags.program {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("hotwarm"),
    };
    let versions = [machine::version(&program)?, redis::version()?];
    let folder = Folder::make(flags.dir.as_deref())?;
    machine::tell(&versions, &folder)?;
    machine::tell_calm("before");

    // Each of these ends its own processes, by their ids, when it is dropped: before the folder is.
    let group = HotwarmGroup::start(&program, folder.path())?;
    let durable = DurableRedis::start(folder.path())?;
    let memory = MemoryRedis::start(folder.path())?;
    let sides = Sides { hotwarm: group.front()?, durable: durable.address(), memory: memory.address() };
    for address in [sides.hotwarm, sides.durable, sides.memory] {
        load::fill(address)?;
    }
    let cases: &[Case] = if flags.cases.is_empty() { &CASES } else { &flags.cases };
    let mut report = Report::new(cases);
    for run in 0..flags.runs {
        for case in cases {
            // Neither side always works on what the other one has left of the disk's and the processor's calm.
            let order = if run % 2 == 0 { [Side::Hotwarm, Side::Redis] } else { [Side::Redis, Side::Hotwarm] };
            for side in order {
                let measured = sides.measure(*case, side, Duration::from_secs(flags.seconds))?;
                eprintln!("run {} of {}: {} {side}: {measured}", run + 1, flags.runs, case.name);
                report.add(*case, side, measured);
            }
            group.check(sides.hotwarm)?;
        }
    }
    drop((group, durable, memory));
    machine::tell_calm("after");
    print!("{}", if flags.json { report.json()? } else { report.text() });
    folder.remove()
}
