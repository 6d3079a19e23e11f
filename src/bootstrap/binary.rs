//! Our own executable: what is copied to a server, and what it needs there.

use super::elf;
use super::probe::{Facts, Libc, LibcVersion};
use crate::codes::{Code, Problem};
use crate::fs::own_executable;
use sha2::{Digest, Sha256};

/// LIMIT: a fanout with all its debugging information is below that.
const MAX_BYTES: u64 = 1024 * 1024 * 1024;

/// The executable of this process.
pub(super) struct Binary {
    pub(super) content: Vec<u8>,
    /// SHA-256, because `sha256sum` is on every server and `b3sum` on few.
    pub(super) checksum: String,
    needs: Needs,
}

/// What a server must have for the executable to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needs {
    machine: &'static str,
    /// Read from the executable's own version table; `None` if it is static.
    glibc: Option<LibcVersion>,
}

impl Binary {
    /// Reads the executable that this process runs.
    pub(super) fn own() -> Result<Self, Problem> {
        let content = own_executable(MAX_BYTES)
            .map_err(|error| Problem::from_error(Code::InstallFailed, &error))?;
        Ok(Self::of(content))
    }

    fn of(content: Vec<u8>) -> Self {
        let checksum = Sha256::digest(&content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let needs = Needs {
            machine: std::env::consts::ARCH,
            glibc: elf::glibc_needed(&content),
        };
        Self {
            content,
            checksum,
            needs,
        }
    }

    /// Refuses a server on which the executable couldn't start.
    pub(super) fn fits(&self, server: &str, facts: &Facts) -> Result<(), Problem> {
        self.needs.fit(server, facts)
    }
}

impl Needs {
    fn fit(&self, server: &str, facts: &Facts) -> Result<(), Problem> {
        if facts.system != "Linux" {
            return Err(Problem::new(
                Code::ArchitectureMismatch,
                format!("{server} runs {}, fanout runs on Linux", facts.system),
            )
            .with_hint("Use a server with Linux"));
        }
        if !same_machine(self.machine, &facts.machine) {
            return Err(Problem::new(
                Code::ArchitectureMismatch,
                format!(
                    "{server} is {}, this fanout is for {}",
                    facts.machine, self.machine
                ),
            ));
        }
        let Some(needed) = self.glibc else {
            return Ok(());
        };
        let found = match facts.libc {
            Libc::Glibc(version) if version >= needed => return Ok(()),
            Libc::Glibc(version) => format!("glibc {version}"),
            Libc::Other(ref name) => name.clone(),
            // The executable is tried on the server before it is put in place.
            Libc::Unknown => return Ok(()),
        };
        Err(Problem::new(
            Code::GlibcTooOld,
            format!("{server} has {found}, this fanout needs glibc {needed}"),
        ))
    }
}

/// Rust's name of an architecture against that of `uname -m`.
fn same_machine(ours: &str, theirs: &str) -> bool {
    match ours {
        "x86" => matches!(theirs, "i386" | "i486" | "i586" | "i686" | "x86_64"),
        "arm" => theirs.starts_with("armv"),
        "powerpc64" => theirs.starts_with("ppc64"),
        _ => ours == theirs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(machine: &str, libc: Libc) -> Facts {
        Facts {
            machine: machine.into(),
            libc,
            ..Facts::example()
        }
    }

    #[test]
    fn a_server_that_could_not_start_it_is_refused_with_both_numbers() {
        let needs = Needs {
            machine: "x86_64",
            glibc: Some("2.34".parse().unwrap()),
        };
        let glibc = |version: &str| Libc::Glibc(version.parse().unwrap());
        assert_eq!(needs.fit("web1", &facts("x86_64", glibc("2.34"))), Ok(()));
        assert_eq!(needs.fit("web1", &facts("x86_64", glibc("2.100"))), Ok(()));
        assert_eq!(needs.fit("web1", &facts("x86_64", Libc::Unknown)), Ok(()));
        let problem = |facts| needs.fit("web1", &facts).unwrap_err();
        let old = problem(facts("x86_64", glibc("2.31")));
        assert_eq!(
            old.to_string(),
            "web1 has glibc 2.31, this fanout needs glibc 2.34 [FX0317]"
        );
        let musl = problem(facts("x86_64", Libc::Other("musl libc".into())));
        assert_eq!(
            musl.to_string(),
            "web1 has musl libc, this fanout needs glibc 2.34 [FX0317]"
        );
        let arm = problem(facts("aarch64", glibc("2.36")));
        assert_eq!(
            arm.to_string(),
            "web1 is aarch64, this fanout is for x86_64 [FX0316]"
        );
    }

    #[test]
    fn a_static_executable_needs_no_library() {
        let needs = Needs {
            machine: "aarch64",
            glibc: None,
        };
        let alpine = facts("aarch64", Libc::Other("musl libc".into()));
        assert_eq!(needs.fit("web1", &alpine), Ok(()));
    }

    #[test]
    fn the_checksum_is_that_of_sha256sum() {
        assert_eq!(
            Binary::of(b"abc".to_vec()).checksum,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
