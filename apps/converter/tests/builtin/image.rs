//! Images.

use domain::ContentType;
use serde_json::{Value, json};

use crate::{Bench, document::samples, says_text};

const IMAGE: ContentType = ContentType::Image;

#[tokio::test]
async fn the_text_of_an_image_is_recognised() {
    let bench = Bench::new(IMAGE).await;
    let made = samples(&bench, &["images"]);
    let (converted, seen) = bench.convert(&IMAGE, &made.join("text.png"), json!({})).await;
    let converted = converted.unwrap();
    let lines =
        ["Invoice number 20417", "The quick brown fox jumps over the lazy dog.", "Total 1,234.56 EUR"];
    says_text(&converted.content, &lines);
    let metadata = converted.metadata;
    assert_eq!(
        (&metadata["format"], &metadata["width"], &metadata["height"]),
        (&json!("PNG"), &json!(1000), &json!(360))
    );
    assert_eq!((&metadata["text_found"], &metadata["frames"]), (&json!(true), &json!(1)));
    assert!(metadata["word_count"].as_u64().unwrap() > 10);
    assert!(seen.is_sorted() && seen.last() == Some(&99), "{seen:?}");

    // One line at each end of a picture as long as fourteen screens, which as a whole would be too small to read.
    let long = bench.convert(&IMAGE, &made.join("long.png"), json!({})).await.0.unwrap();
    says_text(&long.content, &lines);
    let pages = bench.convert(&IMAGE, &made.join("fax.tiff"), json!({})).await.0.unwrap();
    says_text(&pages.content, &lines[..2]);
    assert_eq!(pages.metadata["frames"], 2);
}

#[tokio::test]
async fn an_image_too_thin_for_letters_takes_no_memory_and_others_are_read() {
    let bench = Bench::new(IMAGE).await;
    let made = samples(&bench, &["images"]);
    for name in ["high.png", "wide.png"] {
        let converted = bench.convert(&IMAGE, &made.join(name), json!({})).await.0.unwrap();
        assert_eq!(converted.metadata["text_found"], false, "{name}");
    }
    let strip = bench.convert(&IMAGE, &made.join("strip.png"), json!({})).await.0.unwrap();
    says_text(&strip.content, &["Invoice number 20417"]);
}

#[tokio::test]
async fn an_image_without_text_says_what_it_is() {
    let bench = Bench::new(IMAGE).await;
    let photo = samples(&bench, &["images"]).join("photo.jpg");
    let converted = bench.convert(&IMAGE, &photo, json!({})).await.0.unwrap();
    assert_eq!(
        converted.content,
        "JPEG image, 320 × 240 pixels. No text was recognised in it.\n\n\
         - Taken: 2024-05-06T07:08:09\n- Camera: Canon EOS 5D\n- Place: 52.5, -13.26\n"
    );
    let metadata = Value::Object(converted.metadata);
    assert_eq!(metadata["taken"], "2024-05-06T07:08:09");
    assert_eq!(metadata["camera"], "Canon EOS 5D");
    assert_eq!(metadata["orientation"], 6);
    assert_eq!(metadata["gps"], json!({"latitude": 52.5, "longitude": -13.26}));
    assert_eq!(metadata["text_found"], false);
}

#[tokio::test]
async fn what_is_no_image_or_too_large_is_refused_with_a_reason() {
    let bench = Bench::new(IMAGE).await;
    let made = samples(&bench, &["images"]);
    for (name, why) in [
        ("bomb.png", "more than 100000000 pixels"),
        ("cut.png", "damaged"),
        ("program.png", "not an image of a known format"),
    ] {
        let refusal = bench.refusal(&IMAGE, &made.join(name), json!({})).await;
        assert!(refusal.contains(why), "{name}: {refusal}");
    }
}
