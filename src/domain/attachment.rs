//! Files in conversations: what may be sent, how large, under which name.

use super::chat::{MAX_CONTENT, MessageType};
use super::refusal::{Problems, Refusal};

/// The largest picture, in bytes.
pub const MAX_PICTURE: usize = 10 * 1024 * 1024;
/// The largest other file.
pub const MAX_FILE: usize = 25 * 1024 * 1024;
/// Files of one message.
pub const MAX_PER_MESSAGE: usize = 10;
/// Files that one user may upload in a day (UTC), and their bytes.
pub const FILES_PER_DAY: i32 = 200;
pub const BYTES_PER_DAY: i64 = 500 * 1024 * 1024;
/// How much of the beginning of a file is looked at to tell its type.
pub const HEAD: usize = 8 * 1024;
/// Characters of a name.
const MAX_NAME: usize = 100;

/// What may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    Jpeg,
    Png,
    Webp,
    Gif,
    Pdf,
    Text,
    Mp3,
    /// AAC in an MP4 file, as phones record it.
    M4a,
    /// Opus or Vorbis.
    Ogg,
    Wav,
}

impl FileType {
    /// Every one.
    pub const ALL: [Self; 10] = [
        Self::Jpeg,
        Self::Png,
        Self::Webp,
        Self::Gif,
        Self::Pdf,
        Self::Text,
        Self::Mp3,
        Self::M4a,
        Self::Ogg,
        Self::Wav,
    ];

    /// Its media type (IANA).
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Gif => "image/gif",
            Self::Pdf => "application/pdf",
            Self::Text => "text/plain",
            Self::Mp3 => "audio/mpeg",
            Self::M4a => "audio/mp4",
            Self::Ogg => "audio/ogg",
            Self::Wav => "audio/wav",
        }
    }

    /// Reads a `Content-Type`, parameters left aside; `None` for what may not be sent.
    pub fn parse(content_type: &str) -> Option<Self> {
        let given = content_type.split(';').next().unwrap_or_default().trim();
        Self::ALL.into_iter().find(|kind| kind.media_type().eq_ignore_ascii_case(given))
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Gif => "gif",
            Self::Pdf => "pdf",
            Self::Text => "txt",
            Self::Mp3 => "mp3",
            Self::M4a => "m4a",
            Self::Ogg => "ogg",
            Self::Wav => "wav",
        }
    }

    /// Whether it is decoded and written anew.
    pub fn is_picture(self) -> bool {
        matches!(self, Self::Jpeg | Self::Png | Self::Webp | Self::Gif)
    }

    /// The most bytes of such a file.
    pub fn max_bytes(self) -> usize {
        if self.is_picture() { MAX_PICTURE } else { MAX_FILE }
    }

    /// Whether a file that begins with `head` is of this type, by its magic bytes. Text has none:
    /// it must not begin like anything else.
    pub fn fits(self, head: &[u8]) -> bool {
        let found = infer::get(head).map(|kind| kind.mime_type());
        match self {
            Self::Text => found.is_none_or(|mime| mime.starts_with("text/")),
            // Phones call the same recording by several brands.
            Self::M4a => matches!(found, Some("audio/m4a" | "video/mp4" | "video/quicktime")),
            Self::Ogg => matches!(found, Some("audio/ogg" | "audio/opus")),
            Self::Wav => found == Some("audio/x-wav"),
            Self::Jpeg | Self::Png | Self::Webp | Self::Gif | Self::Pdf | Self::Mp3 => {
                found == Some(self.media_type())
            }
        }
    }
}

/// The refusal of a file that is not what its `Content-Type` says.
pub fn mismatch(kind: FileType) -> Refusal {
    Refusal::field("body", format!("is not what its Content-Type says: {}", kind.media_type()))
}

/// The refusal of files that can not be sent.
pub fn not_to_be_sent() -> Refusal {
    let problem = "must be files that you uploaded to this conversation and did not send yet";
    Refusal::field("attachments", problem)
}

/// Reads what a message with files is, or one of a type that needs them; `None` for any other.
pub fn parse_message(
    kind: &str,
    content: &str,
    files: usize,
) -> Result<Option<MessageType>, Refusal> {
    let kind = match kind {
        "image" => MessageType::Image,
        "file" => MessageType::File,
        _ if files == 0 => return Ok(None),
        _ => return Err(Refusal::field("attachments", "go with the types image and file only")),
    };
    let mut problems = Problems::default();
    let problem = format!("must be 1 to {MAX_PER_MESSAGE} files");
    problems.require((1..=MAX_PER_MESSAGE).contains(&files), "attachments", &problem);
    problems.length("content", content, 0, MAX_CONTENT);
    problems.into_result()?;
    Ok(Some(kind))
}

/// The name that a file is kept under: without folders, control characters and characters that
/// turn the direction of writing, with the ending of its true type.
pub fn file_name(given: Option<&str>, kind: FileType) -> String {
    let base = given.unwrap_or_default().rsplit(['/', '\\']).next().unwrap_or_default();
    let stem = base.rsplit_once('.').map_or(base, |(stem, _)| stem);
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain = |c: &char| !c.is_control() && !turns(*c) && !"<>:\"|?*;".contains(*c);
    let stem: String = stem.chars().filter(plain).take(MAX_NAME).collect();
    let stem = stem.trim_matches(|c: char| c == '.' || c.is_whitespace());
    let stem = match stem {
        "" if kind.is_picture() => "picture",
        "" => "file",
        stem => stem,
    };
    format!("{stem}.{}", kind.extension())
}

/// Whether a text goes on as text in `chunk`: UTF-8, and no control characters but white space.
/// What is left over of a character that is not whole comes back, to stand before the next chunk.
pub fn text_goes_on(chunk: &[u8]) -> Option<&[u8]> {
    let (good, rest) = match std::str::from_utf8(chunk) {
        Ok(text) => (text, &[][..]),
        Err(e) if e.error_len().is_none() => {
            let (good, rest) = chunk.split_at_checked(e.valid_up_to())?;
            (std::str::from_utf8(good).ok()?, rest)
        }
        Err(_) => return None,
    };
    let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}');
    (!good.contains(odd)).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_keep_what_is_harmless() {
        let name = |given| file_name(Some(given), FileType::Pdf);
        assert_eq!(name("report.pdf"), "report.pdf");
        assert_eq!(name("../../etc/passwd"), "passwd.pdf");
        assert_eq!(name(r"C:\temp\notes.final.pdf"), "notes.final.pdf");
        assert_eq!(name("evil\u{202e}fdp.exe"), "evilfdp.pdf");
        assert_eq!(name("योग.pdf"), "योग.pdf");
        assert_eq!(name("..."), "file.pdf");
        assert_eq!(file_name(None, FileType::Webp), "picture.webp");
    }

    #[test]
    fn a_type_is_told_by_its_first_bytes() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        assert!(FileType::Png.fits(png) && !FileType::Jpeg.fits(png) && !FileType::Text.fits(png));
        assert!(FileType::Pdf.fits(b"%PDF-1.7\n") && !FileType::Png.fits(b"%PDF-1.7\n"));
        assert!(FileType::Text.fits("नमस्ते".as_bytes()) && !FileType::Pdf.fits(b"hello there"));
        let elf = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 60]].concat();
        assert!(!FileType::Text.fits(b"MZ\x90\0") && !FileType::Text.fits(&elf));
        assert!(
            FileType::parse("image/svg+xml").is_none() && FileType::parse("text/html").is_none()
        );
        assert_eq!(FileType::parse("Text/Plain; charset=utf-8"), Some(FileType::Text));
    }

    proptest! {
        #[test]
        fn a_name_can_stand_anywhere(given in ".{0,300}") {
            let name = file_name(Some(&given), FileType::Gif);
            prop_assert!(name.ends_with(".gif") && name.chars().count() <= MAX_NAME + 4);
            prop_assert!(!name.contains(['/', '\\', '"', '\0', '\n']) && !name.starts_with('.'));
        }

        #[test]
        fn text_may_be_cut_anywhere(text in "[a-zक-ह🪷\n]{1,60}", at in 0usize..200) {
            let at = at.min(text.len());
            let rest = text_goes_on(&text.as_bytes()[..at]).unwrap();
            let mut next = rest.to_vec();
            next.extend_from_slice(&text.as_bytes()[at..]);
            prop_assert_eq!(text_goes_on(&next), Some(&[][..]));
        }
    }
}
