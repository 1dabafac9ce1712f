//! Content lines: escaping (RFC 5545 §3.3.11) and folding (§3.1).

/// The most octets of a line, without its CRLF.
const MAX_OCTETS: usize = 75;

/// An iCalendar object under construction.
#[derive(Debug, Default)]
pub(super) struct Lines(String);

impl Lines {
    /// Adds a line as it is, folded; its value is the caller's to escape.
    pub(super) fn add(&mut self, line: &str) {
        let mut room = MAX_OCTETS;
        for c in line.chars() {
            if c.len_utf8() > room {
                self.0.push_str("\r\n ");
                room = MAX_OCTETS - 1;
            }
            self.0.push(c);
            room -= c.len_utf8();
        }
        self.0.push_str("\r\n");
    }

    /// Adds a property whose value is text.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.add(&format!("{name}:{}", escaped(value)));
    }

    /// The whole object.
    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// A text as a value of type TEXT. Control characters have no place in one.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' | ';' | ',' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// A text as a parameter's value, in quotes. What can not stand there (§3.2: quotes and control
/// characters) is replaced: RFC 6868's escapes are unknown to too many readers.
pub(super) fn quoted(value: &str) -> String {
    let plain = value.chars().map(|c| match c {
        '"' => '\'',
        c if c.is_control() => ' ',
        c => c,
    });
    format!("\"{}\"", plain.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_a_meaning_is_escaped() {
        assert_eq!(escaped("a;b,c\\d\r\ne\u{7}"), "a\\;b\\,c\\\\d\\ne");
        assert_eq!(quoted("Asha \"A\"\n; Rao:"), "\"Asha 'A' ; Rao:\"");
    }

    proptest! {
        #[test]
        fn a_folded_line_unfolds_to_itself(value in "[ -~क-ह🪷é]{0,300}") {
            let mut lines = Lines::default();
            lines.add(&value);
            let text = lines.into_text();
            let folded: Vec<&str> = text.strip_suffix("\r\n").unwrap().split("\r\n").collect();
            prop_assert!(folded.iter().all(|line| line.len() <= MAX_OCTETS));
            prop_assert!(folded.iter().skip(1).all(|line| line.starts_with(' ')));
            // Nothing is folded without need.
            prop_assert_eq!(folded.len() > 1, value.len() > MAX_OCTETS);
            prop_assert_eq!(text.replace("\r\n ", "").replace("\r\n", ""), value);
        }
    }
}
