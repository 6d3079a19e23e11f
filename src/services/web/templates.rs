//! The templates: built in, replaced by name, extended by blocks.
//!
//! An administrator's template of a built-in one's name takes its place; it may begin with
//! `{% extends "built-in/NAME" %}` and replace blocks only. A variable that isn't there is an
//! error, never an empty place.

use super::RenderError;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use std::collections::BTreeMap;
use std::fmt;

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("templates/", $name)))),*]
    };
}

const BUILT_IN: &[(&str, &str)] = built_in![
    "apache-base.conf",
    "apache-default.conf",
    "apache-health.conf",
    "apache-host.conf",
    "apache-roots.conf",
    "apache-site-body.conf",
    "apache-site.conf",
    "apache-sub.inc",
    "nginx-base.conf",
    "nginx-default.conf",
    "nginx-fastcgi.inc",
    "nginx-health.conf",
    "nginx-host.conf",
    "nginx-site.conf",
    "nginx-sub.inc",
    "page-disabled.html",
    "page-maintenance.html",
    "php-fpm-health.conf",
    "php-fpm-pool.conf",
];

/// Built-in templates with an administrator's in their place.
#[derive(Clone)]
pub struct Templates(Environment<'static>);

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Templates")
    }
}

impl Templates {
    /// The built-in ones with these in place of those of the same name.
    ///
    /// # Errors
    /// A name that no built-in template has, or a text that is no template.
    pub fn with(replaced: BTreeMap<String, String>) -> Result<Self, RenderError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|name| match name.ends_with(".html") {
            true => AutoEscape::Html,
            false => AutoEscape::None,
        });
        let mut add = |name: String, text: String| {
            let added = environment.add_template_owned(name.clone(), text);
            added.map_err(|error| broken(&name, &error))
        };
        for (name, text) in BUILT_IN {
            add(format!("built-in/{name}"), (*text).to_owned())?;
            if !replaced.contains_key(*name) {
                add((*name).to_owned(), (*text).to_owned())?;
            }
        }
        for (name, text) in replaced {
            if !BUILT_IN.iter().any(|(known, _)| *known == name) {
                let names: Vec<&str> = BUILT_IN.iter().map(|(known, _)| *known).collect();
                return Err(RenderError::Template {
                    name,
                    detail: format!("there is no such template; there are {}", names.join(", ")),
                });
            }
            add(name, text)?;
        }
        Ok(Self(environment))
    }

    /// The built-in ones.
    ///
    /// # Errors
    /// Never, for what is built in.
    pub fn built_in() -> Result<Self, RenderError> {
        Self::with(BTreeMap::new())
    }

    /// The names of all templates with their built-in texts.
    pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
        BUILT_IN.iter().copied()
    }

    pub(super) fn render(
        &self,
        name: &str,
        context: impl Into<Value>,
    ) -> Result<String, RenderError> {
        let template = self.0.get_template(name);
        let text = template.and_then(|it| it.render(context));
        let mut text = text.map_err(|error| broken(name, &error))?;
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Ok(text)
    }
}

/// The variables of one template.
macro_rules! vars {
    ($($key:ident $(=> $value:expr)?),* $(,)?) => {
        std::collections::BTreeMap::from([$((
            stringify!($key),
            $crate::services::web::templates::vars!(@ $key $($value)?),
        )),*])
    };
    (@ $key:ident $value:expr) => { minijinja::Value::from(minijinja::value::Serde(&$value)) };
    (@ $key:ident) => { minijinja::Value::from(minijinja::value::Serde(&$key)) };
}
pub(super) use vars;

fn broken(name: &str, error: &minijinja::Error) -> RenderError {
    let place = match (error.name(), error.line()) {
        (Some(name), Some(line)) => format!(" ({name}, line {line})"),
        _ => String::new(),
    };
    RenderError::Template {
        name: name.to_owned(),
        detail: format!("{error}{place}"),
    }
}
