//! This process's own executable, as the kernel runs it.

use super::error::FsError;
use std::fs::File;
use std::io::Read;

/// The file that this process was started from, even if it was replaced or removed since.
///
/// It is no entry of any tree, so it is opened by the kernel's own name for it and not beneath a
/// directory: it may be a mount of its own, as in containers.
///
/// # Errors
/// Without `/proc`, or if it is larger than `limit_bytes`.
pub fn own_executable(limit_bytes: u64) -> Result<Vec<u8>, FsError> {
    const PATH: &str = "/proc/self/exe";
    let failed = |error: std::io::Error| FsError::from_io("read", PATH.as_bytes(), &error);
    let file = File::open(PATH).map_err(failed)?;
    let mut content = Vec::new();
    file.take(limit_bytes.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() as u64 > limit_bytes {
        return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_reads_itself() {
        let path = std::env::current_exe().unwrap();
        let content = own_executable(u64::MAX).unwrap();
        assert!(content == std::fs::read(path).unwrap());
        assert!(own_executable(16).is_err());
    }
}
