//! PHP source as it is rendered: strings that can't break out.

/// A string literal of PHP that holds exactly this text.
pub(super) fn quoted(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            literal.push('\\');
        }
        literal.push(c);
    }
    literal.push('\'');
    literal
}

/// `defined('NAME') || define('NAME', VALUE);`: the user's own file may have the first word.
pub(super) fn constant(name: &str, value: &str) -> String {
    format!("defined('{name}') || define('{name}', {value});\n")
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_ends_where_it_should() {
        assert_eq!(quoted("a"), "'a'");
        assert_eq!(quoted("a'); evil('"), r"'a\'); evil(\''");
        assert_eq!(quoted(r"\"), r"'\\'");
        assert_eq!(quoted("$x ?>\n"), "'$x ?>\n'");
    }
}
