//! Pictures, decoded and written anew: what is not the picture (place, camera, comments, whatever
//! was hidden behind it) does not come along.

use std::io::Cursor;

use image::codecs::gif::{GifDecoder, GifEncoder, Repeat};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::metadata::Orientation;
use image::{
    AnimationDecoder, DynamicImage, ImageDecoder, ImageFormat, ImageReader, ImageResult, Limits,
    Rgb, RgbImage,
};

use crate::domain::attachment::{FileType, MAX_FILE};
use crate::domain::refusal::Refusal;

/// The longest side, in pixels, and the most of them.
const MAX_SIDE: u32 = 12_000;
const MAX_PIXELS: u64 = 40_000_000;
/// Memory that decoding one picture may take.
const MAX_MEMORY: u64 = 256 * 1024 * 1024;
/// Pictures of an animation, and the pixels of all of them.
const MAX_FRAMES: u64 = 500;
const MAX_FRAME_PIXELS: u64 = 60_000_000;
/// The longer side of a thumbnail.
const THUMB_SIDE: u32 = 320;
/// Of JPEG, 1 to 100.
const QUALITY: u8 = 88;
const THUMB_QUALITY: u8 = 75;

/// A picture with nothing but its pixels.
pub(super) struct Picture {
    pub bytes: Vec<u8>,
    pub kind: FileType,
    pub width: u32,
    pub height: u32,
    /// JPEG.
    pub thumb: Vec<u8>,
}

/// Reads `bytes` as `kind` and writes the picture anew, upright. WebP becomes JPEG, or PNG if it is
/// transparent anywhere; of an animation only GIF keeps more than the first picture. Colours are
/// taken as sRGB. Takes a while: not for async threads.
pub(super) fn clean(bytes: &[u8], kind: FileType) -> Result<Picture, Refusal> {
    let format = match kind {
        FileType::Jpeg => ImageFormat::Jpeg,
        FileType::Png => ImageFormat::Png,
        FileType::Webp => ImageFormat::WebP,
        FileType::Gif => ImageFormat::Gif,
        _ => return Err(unreadable()),
    };
    // From the header alone: nothing is decoded that is too large.
    let (width, height) = ImageReader::with_format(Cursor::new(bytes), format)
        .into_dimensions()
        .map_err(|_| unreadable())?;
    if width > MAX_SIDE || height > MAX_SIDE || area(width, height) > MAX_PIXELS {
        let problem = format!("a picture has at most {MAX_SIDE} pixels a side, and 40 million");
        return Err(Refusal::field("body", problem));
    }
    let picture = match kind {
        FileType::Gif => animation(bytes)?,
        _ => still(bytes, kind, format).map_err(|_| unreadable())?,
    };
    if picture.bytes.len() > MAX_FILE {
        return Err(Refusal::field("body", "is too large once it is written anew"));
    }
    Ok(picture)
}

fn unreadable() -> Refusal {
    Refusal::field("body", "could not be read as a picture")
}

fn area(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height)
}

fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_MEMORY);
    limits
}

fn still(bytes: &[u8], kind: FileType, format: ImageFormat) -> ImageResult<Picture> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits());
    let mut decoder = reader.into_decoder()?;
    let turned = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(turned);
    let kind = match kind {
        FileType::Webp if image.color().has_alpha() => FileType::Png,
        FileType::Webp => FileType::Jpeg,
        kind => kind,
    };
    let mut out = Vec::new();
    match kind {
        FileType::Png => image.write_with_encoder(PngEncoder::new(&mut out))?,
        _ => {
            let mut encoder = JpegEncoder::new_with_quality(&mut out, QUALITY);
            match &image {
                DynamicImage::ImageRgb8(rgb) => encoder.encode_image(rgb)?,
                // 120 MB of a large picture, which most have no need of.
                other => encoder.encode_image(&other.to_rgb8())?,
            }
        }
    }
    let thumb = thumbnail(&image)?;
    Ok(Picture { bytes: out, kind, width: image.width(), height: image.height(), thumb })
}

fn animation(bytes: &[u8]) -> Result<Picture, Refusal> {
    let mut decoder = GifDecoder::new(Cursor::new(bytes)).map_err(|_| unreadable())?;
    decoder.set_limits(limits()).map_err(|_| unreadable())?;
    let (width, height) = decoder.dimensions();
    let (mut out, mut thumb, mut count) = (Vec::new(), None, 0u64);
    let mut encoder = GifEncoder::new_with_speed(&mut out, 10);
    encoder.set_repeat(Repeat::Infinite).map_err(|_| unreadable())?;
    for frame in decoder.into_frames() {
        count += 1;
        if count > MAX_FRAMES || count.saturating_mul(area(width, height)) > MAX_FRAME_PIXELS {
            return Err(Refusal::field("body", "is too long an animation"));
        }
        let frame = frame.map_err(|_| unreadable())?;
        if thumb.is_none() {
            let first = DynamicImage::ImageRgba8(frame.buffer().clone());
            thumb = Some(thumbnail(&first).map_err(|_| unreadable())?);
        }
        encoder.encode_frame(frame).map_err(|_| unreadable())?;
    }
    drop(encoder);
    let thumb = thumb.ok_or_else(unreadable)?;
    Ok(Picture { bytes: out, kind: FileType::Gif, width, height, thumb })
}

/// A small JPEG; what is transparent is shown on white.
fn thumbnail(image: &DynamicImage) -> ImageResult<Vec<u8>> {
    let small = if image.width().max(image.height()) > THUMB_SIDE {
        image.thumbnail(THUMB_SIDE, THUMB_SIDE).to_rgba8()
    } else {
        image.to_rgba8()
    };
    let on_white = RgbImage::from_fn(small.width(), small.height(), |x, y| {
        let [r, g, b, a] = small.get_pixel(x, y).0;
        let over = |c: u8| {
            let mixed = (u16::from(c) * u16::from(a) + 255 * (255 - u16::from(a))) / 255;
            u8::try_from(mixed).unwrap_or(u8::MAX)
        };
        Rgb([over(r), over(g), over(b)])
    });
    let mut out = Vec::new();
    JpegEncoder::new_with_quality(&mut out, THUMB_QUALITY).encode_image(&on_white)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image.write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    fn left_dark(width: u32, height: u32) -> DynamicImage {
        let shade = |x| if x < width / 2 { Rgb([10, 10, 10]) } else { Rgb([240, 240, 240]) };
        DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, |x, _| shade(x)))
    }

    /// A JPEG with an Exif block (orientation 6: turn it right, and a secret) after its first mark.
    fn with_exif(jpeg: &[u8], secret: &[u8]) -> Vec<u8> {
        let mut tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
        tiff.extend_from_slice(secret);
        let mut out = jpeg[..2].to_vec();
        out.extend_from_slice(&[0xff, 0xe1]);
        out.extend_from_slice(&u16::try_from(tiff.len() + 8).unwrap().to_be_bytes());
        out.extend_from_slice(b"Exif\0\0");
        out.extend_from_slice(&tiff);
        out.extend_from_slice(&jpeg[2..]);
        out
    }

    #[test]
    fn metadata_goes_and_the_picture_stands_upright() {
        let secret = b"GPS 12.9716N 77.5946E";
        let jpeg = with_exif(&encoded(&left_dark(64, 32), ImageFormat::Jpeg), secret);
        let clean = clean(&jpeg, FileType::Jpeg).unwrap();
        assert_eq!((clean.width, clean.height), (32, 64));
        assert!(!clean.bytes.windows(4).any(|w| w == b"Exif" || w == b"GPS "));
        let image = image::load_from_memory(&clean.bytes).unwrap().to_luma8();
        assert!(image.get_pixel(16, 4).0[0] < 60 && image.get_pixel(16, 60).0[0] > 190);
    }

    #[test]
    fn what_hides_behind_a_picture_goes() {
        let mut png = encoded(&left_dark(400, 300), ImageFormat::Png);
        png.extend_from_slice(b"PK\x03\x04 and a whole archive");
        let clean = clean(&png, FileType::Png).unwrap();
        assert!(!clean.bytes.windows(4).any(|w| w == b"PK\x03\x04"));
        let thumb = image::load_from_memory(&clean.thumb).unwrap();
        assert_eq!((thumb.width(), thumb.height()), (320, 240));
    }

    #[test]
    fn a_header_that_promises_too_much_is_refused_undecoded() {
        let mut png = encoded(&left_dark(8, 8), ImageFormat::Png);
        png[16..20].copy_from_slice(&30_000u32.to_be_bytes());
        png[20..24].copy_from_slice(&30_000u32.to_be_bytes());
        // Its checksum is wrong now, too; a bomb would have mended that.
        assert!(clean(&png, FileType::Png).is_err());
        let wide = encoded(&left_dark(MAX_SIDE + 1, 1), ImageFormat::Png);
        let problem = "a picture has at most 12000 pixels a side, and 40 million";
        let refused = clean(&wide, FileType::Png).err();
        assert_eq!(refused, Some(Refusal::field("body", problem)));
        assert!(clean(b"", FileType::Jpeg).is_err());
    }

    #[test]
    fn webp_becomes_what_everybody_shows() {
        let webp = encoded(&left_dark(20, 10), ImageFormat::WebP);
        assert_eq!(clean(&webp, FileType::Webp).unwrap().kind, FileType::Jpeg);
        let clear = DynamicImage::new_rgba8(20, 10);
        let clean = clean(&encoded(&clear, ImageFormat::WebP), FileType::Webp).unwrap();
        assert_eq!(clean.kind, FileType::Png);
    }

    #[test]
    fn an_animation_keeps_its_pictures() {
        let mut gif = Vec::new();
        let mut encoder = GifEncoder::new(&mut gif);
        for _ in 0..3 {
            encoder.encode_frame(image::Frame::new(left_dark(16, 16).to_rgba8())).unwrap();
        }
        drop(encoder);
        let clean = clean(&gif, FileType::Gif).unwrap();
        let frames = GifDecoder::new(Cursor::new(&clean.bytes)).unwrap().into_frames();
        assert_eq!(frames.count(), 3);
    }
}
