//! Commands about fanout itself.

use crate::codes::{Code, ParseCodeError};
use clap::Args;
use clap::builder::NonEmptyStringValueParser as NonEmpty;
use clap_complete::{ArgValueCandidates, Shell};
use std::ffi::OsString;
use std::path::PathBuf;

use crate::cli::complete;

/// `fanout explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout explain                     every error code
  fanout explain FX0201              what it means, why fanout stops, what to do
  fanout explain web/sites/default/files --platform drupal")]
pub(crate) struct ExplainArgs {
    /// An error code, or a path of a platform; none lists the codes
    #[arg(value_name = "CODE|PATH", add = ArgValueCandidates::new(complete::codes))]
    pub(crate) target: Option<OsString>,
    /// The platform that the path belongs to [default: the only one, or the one whose source
    /// holds it]
    #[arg(
        long,
        value_name = "NAME",
        value_parser = NonEmpty::new(),
        add = ArgValueCandidates::new(complete::platforms)
    )]
    pub(crate) platform: Option<String>,
}

/// What `fanout explain` is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExplainTarget {
    /// An error code.
    Code(Code),
    /// A path, absolute in the source or relative to it.
    Path(PathBuf),
}

impl ExplainTarget {
    /// What looks like a code is one; `./FX0201` is the way to a file of that name.
    pub(crate) fn parse(text: &OsString) -> Result<Self, ParseCodeError> {
        match text.to_str().map(str::parse) {
            Some(Ok(code)) => Ok(Self::Code(code)),
            Some(Err(error @ ParseCodeError::Unknown(_))) => Err(error),
            Some(Err(ParseCodeError::Form)) | None => Ok(Self::Path(text.into())),
        }
    }
}

/// `fanout demo`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fanout demo
  fanout demo --platform /usr/share/wordpress --members 4")]
pub(crate) struct DemoArgs {
    /// Push this directory instead of a generated platform; it is only read
    #[arg(long, value_name = "DIR")]
    pub(crate) platform: Option<PathBuf>,
    /// How many members to run
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "3",
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    pub(crate) members: u16,
    /// Files in the generated platform
    #[arg(
        long,
        value_name = "COUNT",
        default_value = "20000",
        conflicts_with = "platform"
    )]
    pub(crate) files: u32,
    /// Leave the directory with everything in it, for a look
    #[arg(long)]
    pub(crate) keep: bool,
}

/// `fanout completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
The script asks fanout at each TAB, so names of servers, clusters and platforms complete too.

Examples:
  fanout completions bash > /usr/share/bash-completion/completions/fanout
  fanout completions zsh > /usr/local/share/zsh/site-functions/_fanout
  fanout completions fish > ~/.config/fish/completions/fanout.fish")]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

/// `fanout man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  fanout man /usr/local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Directory to write to; it is created if it is missing
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_told_from_a_path() {
        let parse = |text: &str| ExplainTarget::parse(&text.into());
        assert_eq!(
            parse("fx0201"),
            Ok(ExplainTarget::Code(Code::TooManyDeletions))
        );
        assert_eq!(parse("FX9999"), Err(ParseCodeError::Unknown(9999)));
        for path in ["./FX0201", "web/index.php", "/srv/src/drupal/web", "FX"] {
            assert_eq!(parse(path), Ok(ExplainTarget::Path(path.into())));
        }
    }
}
