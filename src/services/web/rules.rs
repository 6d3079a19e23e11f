//! What an application needs of a web server, whichever that is. Each driver fills one in.

use super::text::{Pattern, Plain, Quoted, TextError};

/// An application's demands. Paths begin with `/` and are relative to the site's own beginning: in
/// a subdirectory they are moved below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppRules {
    /// Which scripts are run.
    pub scripts: Scripts,
    /// The script that answers whatever is no file, such as `/index.php`. `None`: not found.
    pub front: Option<Plain>,
    /// What is not found, whatever is there: expressions on the path.
    pub deny: Vec<Pattern>,
    /// Directories below which no script is run: uploads. With `/` at both ends.
    pub no_scripts: Vec<Quoted>,
    /// Directories that only the application itself may hand out. With `/` at both ends.
    pub private: Vec<Quoted>,
    /// Variables of the pool's environment.
    pub env: Vec<(Plain, Quoted)>,
    /// Values that the pool sets for PHP and that scripts can't change, such as `memory_limit`.
    pub php_admin: Vec<(Plain, Quoted)>,
    /// How long browsers may keep style sheets, scripts, images and fonts, in seconds; 0: no word
    /// about it.
    pub static_max_age_s: u32,
}

/// Which scripts a site runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scripts {
    /// None: files only. There is no pool then.
    #[default]
    None,
    /// Every `.php` file that isn't denied.
    Any,
    /// These, by their path; other `.php` files are not found.
    Only(Vec<Plain>),
}

impl AppRules {
    /// Files only.
    pub fn files() -> Self {
        Self {
            static_max_age_s: 86_400,
            ..Self::default()
        }
    }

    /// PHP in general: any script, and `/index.php` for what is no file.
    ///
    /// # Errors
    /// Never, for what is written here.
    pub fn php() -> Result<Self, TextError> {
        Ok(Self {
            scripts: Scripts::Any,
            front: Some(Plain::parse("the front controller", "/index.php")?),
            static_max_age_s: 86_400,
            ..Self::default()
        })
    }

    /// Does it run scripts at all?
    pub fn has_scripts(&self) -> bool {
        self.scripts != Scripts::None
    }
}
