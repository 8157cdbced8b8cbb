//! Documents.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

use domain::ContentType;
use serde_json::{Value, json};

use crate::{Bench, python, says_text};

#[tokio::test]
async fn text_is_passed_through_as_it_is() {
    let bench = Bench::new(ContentType::Document).await;
    let text = "\u{feff}  # A  title #\r\n\r\n<b>not html</b> & caf\u{e9} \u{1f600}\n\n\ttail \n\n";
    for name in ["a.md", "a.txt", "noextension"] {
        let converted = bench.document(&bench.file(name, text)).await;
        assert_eq!(converted.content, text.trim_start_matches('\u{feff}'), "{name}");
        assert_eq!(converted.metadata["encoding"], "utf-8");
        assert_eq!(converted.metadata["converter"], "document-markitdown");
    }
    let converted = bench.document(&bench.file("b.md", "intro\n\n# A  title #\n")).await;
    assert_eq!(converted.metadata["title"], "A title");

    let latin = bench.document(&bench.file("latin.txt", b"caf\xe9 cr\xe8me, d\xe9j\xe0 vu")).await;
    assert_eq!(latin.content, "caf\u{e9} cr\u{e8}me, d\u{e9}j\u{e0} vu");
    let wide: Vec<u8> = "\u{feff}wide \u{e9}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(bench.document(&bench.file("wide.txt", &wide)).await.content, "wide \u{e9}");
    // Cut within a character.
    let cut = &wide[..wide.len() - 1];
    assert_eq!(bench.document(&bench.file("cut.txt", cut)).await.content, "wide \u{fffd}");
    assert_eq!(bench.document(&bench.file("cut.csv", cut)).await.content, "| wide \u{fffd} |\n| --- |\n");
    let about = "A text about the mark %PDF- of PDF files";
    assert_eq!(bench.document(&bench.file("about.txt", about)).await.content, about);
}

#[tokio::test]
async fn text_in_an_old_encoding_is_decoded_by_what_fits_its_language() {
    let bench = Bench::new(ContentType::Document).await;
    let quoted = b"He said \x93hello\x94 \x96 it costs \x805. Gr\xf6\xdfe";
    let polish = b"Za\xbf\xf3\xb3\xe6 g\xea\x9cl\xb9 ja\x9f\xf1. To jest zwyk\xb3y tekst po polsku, \
                   kt\xf3ry ma kilka s\xb3\xf3w.";
    for (bytes, encoding, text) in [
        (&quoted[..], "cp1252", "He said “hello” – it costs €5. Größe"),
        (b"Gr\xf6\xdfe", "cp1252", "Größe"),
        (polish, "cp1250", "Zażółć gęślą jaźń. To jest zwykły tekst po polsku, który ma kilka słów."),
    ] {
        let converted = bench.document(&bench.file("old.txt", bytes)).await;
        assert_eq!(converted.content, text);
        assert_eq!(converted.metadata["encoding"], encoding);
    }
}

#[tokio::test]
async fn office_files_that_programs_wrote_lose_nothing_but_their_pictures() {
    let bench = Bench::open(ContentType::Document, within_bounds).await;
    let made = samples(&bench, &["odd office"]);
    let album = bench.document(&made.join("album.docx")).await.content;
    assert!(album.starts_with("| a\\|b | c |\n| --- | --- |\n\n[Picture: a dog]\n"), "{}", &album[..200]);
    assert_eq!(album.matches("[Picture: a dog]").count(), 2000);
    let slides = bench.document(&made.join("table.pptx")).await.content;
    assert_eq!(slides, "<!-- Slide number: 1 -->\n\n| a\\|b |\n| --- |\n| c |");
    for name in ["picture.docx", "picture.pptx"] {
        let refusal = bench.refusal(&ContentType::Document, &made.join(name), json!({})).await;
        assert!(refusal.contains("no text besides its pictures"), "{name}: {refusal}");
    }

    let sheet = bench.document(&made.join("formulas.xlsx")).await;
    let table = "| Kind | Sum |\n| --- | --- |\n| Cod | =SUM(C2:C9) |\n| Eel | 4 |\n";
    assert_eq!(sheet.content, format!("## Sheet\n\n{table}"));
    assert_eq!(sheet.metadata["uncalculated_formulas"], 1);
    let stray = bench.document(&made.join("stray.xlsx")).await.content;
    let head = "## Sheet\n\n| row 0 | 0 | stray |\n| --- | --- | --- |\n| row 1 | 1 |  |\n";
    assert!(stray.starts_with(head) && stray.contains("\n| row 5999 | 5999 |  |\n"), "{}", &stray[..200]);
}

#[tokio::test]
async fn html_becomes_markdown() {
    let bench = Bench::new(ContentType::Document).await;
    let page = "<!doctype html><html><head><meta charset=utf-8><title>The &amp; title</title>\
                <script>alert(1)</script><style>b{}</style></head><body><h1>Heading</h1>\
                <p>Some <b>bold</b> caf\u{e9} and <a href='https://x.example/y'>a link</a>.</p>\
                <ul><li>one</li><li>two</li></ul>\
                <table><tr><th>a</th></tr><tr><td>1</td></tr></table></body></html>";
    for name in ["page.html", "page.htm", "page"] {
        let converted = bench.document(&bench.file(name, page)).await;
        let text = &converted.content;
        for part in [
            "# Heading",
            "**bold** caf\u{e9}",
            "[a link](https://x.example/y)",
            "* one\n* two",
            "| a |\n| --- |\n| 1 |",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("alert") && !text.contains("b{}"), "{text}");
        assert_eq!(converted.metadata["title"], "The & title");
    }
}

#[tokio::test]
async fn a_pdf_becomes_markdown() {
    let bench = Bench::new(ContentType::Document).await;
    let file = bench.file("report.pdf", pdf(&["Hello from page one", "The second page"]));
    let converted = bench.document(&file).await;
    assert!(converted.content.contains("Hello from page one"), "{}", converted.content);
    assert!(converted.content.contains("The second page") && !converted.content.contains('\u{c}'));
    assert_eq!(converted.metadata["pages"], 2);
    assert_eq!(converted.metadata["title"], "Annual Report");
}

#[tokio::test]
async fn tables_of_values_become_tables() {
    let bench = Bench::new(ContentType::Document).await;
    for (name, text) in [
        ("commas.csv", "kind,price\r\n\"cod, fresh\",7\r\n"),
        ("semicolons.csv", "\u{feff}kind;price\n\"cod, fresh\";7\n"),
        ("tabs.tsv", "kind\tprice\ncod, fresh\t7\n"),
    ] {
        let converted = bench.document(&bench.file(name, text)).await;
        assert_eq!(converted.content, "| kind | price |\n| --- | --- |\n| cod, fresh | 7 |\n", "{name}");
        assert_eq!(converted.metadata["rows"], 2);
    }
}

#[tokio::test]
async fn office_files_and_e_books_become_markdown() {
    let bench = Bench::new(ContentType::Document).await;
    let made = samples(&bench, &["documents"]);
    let word = bench.document(&made.join("minutes.docx")).await;
    for part in ["# The meeting", "All were there.", "| Ann | yes |"] {
        assert!(word.content.contains(part), "{part}: {}", word.content);
    }
    assert_eq!((&word.metadata["title"], &word.metadata["author"]), (&json!("Minutes"), &json!("Ann Onym")));
    assert!(word.metadata["tool"].as_str().unwrap().starts_with("markitdown "));
    assert_eq!(word.metadata["word_count"], 9);

    let slides = bench.document(&made.join("plan.pptx")).await;
    let place = |part: &str| slides.content.find(part).unwrap();
    assert!(place("# Roadmap") < place("First the harbour") && place("First the harbour") < place("# Costs"));
    assert_eq!((&slides.metadata["slides"], &slides.metadata["title"]), (&json!(2), &json!("The plan")));

    let sheets = bench.document(&made.join("prices.xlsx")).await;
    assert_eq!(
        sheets.content,
        "## Fish\n\n| Kind | Price |\n| --- | --- |\n| Cod \\| fresh | 7.5 |\n|  | 2 |\n\n\
         ## Ships\n\n| Anna |\n| --- |\n"
    );
    assert_eq!(sheets.metadata["sheet_names"], json!(["Fish", "Ships", "Nothing"]));

    let book = bench.document(&made.join("book.epub")).await;
    let place = |part: &str| book.content.find(part).unwrap();
    assert!(
        place("## First chapter") < place("It begins.") && place("It begins.") < place("## Second chapter")
    );
    assert_eq!(
        (&book.metadata["title"], &book.metadata["author"]),
        (&json!("The harbour"), &json!("Ann Onym"))
    );
}

#[tokio::test]
async fn scanned_pages_are_recognised_and_others_are_read() {
    let bench = Bench::new(ContentType::Document).await;
    let text = bench.file("text.pdf", pdf(&["A page that has its text in it, and no picture."]));
    let made = samples(&bench, &["scans"]);
    assert!(text.starts_with(&made));
    let converted = bench.document(&made.join("both.pdf")).await;
    says_text(&converted.content, &["Invoice number 20417", "The quick brown fox jumps over the lazy dog."]);
    assert!(converted.content.contains("A page that has its text in it"), "{}", converted.content);
    assert_eq!(
        (&converted.metadata["pages"], &converted.metadata["recognised_pages"]),
        (&json!(2), &json!(1))
    );
    let recogniser = converted.metadata["recogniser"].as_str().unwrap();
    assert!(recogniser.starts_with("rapidocr ") || recogniser.starts_with("tesseract "), "{recogniser}");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_a_reason() {
    let bench = Bench::new(ContentType::Document).await;
    let whole = pdf(&["text"]);
    samples(&bench, &["documents"]);
    let word = std::fs::read(bench.parent.path().join("minutes.docx")).unwrap();
    let old = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".to_vec();
    let name: Vec<u8> = "EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (name, bytes, why) in [
        ("blank.pdf", pdf(&[""]), "no text"),
        ("cut.pdf", whole[..200].to_vec(), "damaged"),
        ("protected.pdf", include_bytes!("protected.pdf").to_vec(), "protected by a password"),
        ("cut.docx", word[..word.len() / 2].to_vec(), "damaged"),
        ("torn.docx", [&word[..200], b"torn", &word[204..]].concat(), "damaged"),
        ("protected.docx", [old.clone(), vec![0; 1000], name].concat(), "protected by a password"),
        ("old.docx", [old, vec![0; 1000]].concat(), "before 2007"),
        ("rich.docx", br"{\rtf1 hello}".to_vec(), "is RTF"),
        ("text.pdf", b"hello".to_vec(), "named .pdf but holds plain text"),
        ("noise.txt", [b"\xff\xfe".to_vec(), vec![0xdc; 1000]].concat(), "damaged"),
        ("picture.pdf", b"\x89PNG\r\n\x1a\n\0\0\0".to_vec(), "none of PDF"),
        ("empty.pdf", Vec::new(), "empty"),
        ("empty.txt", b" \n".to_vec(), "no text"),
        ("empty.html", b"<html></html>".to_vec(), "no text"),
    ] {
        let refusal = bench.refusal(&ContentType::Document, &bench.file(name, bytes), json!({})).await;
        assert!(refusal.contains(why), "{name}: {refusal}");
        // One sentence, after the one that says which converter it was.
        assert_eq!(
            refusal.lines().filter(|line| !line.starts_with("Processing progress")).count(),
            2,
            "{refusal}"
        );
    }
}

/// The built-in converter with little time and little memory.
fn within_bounds(folder: &Path, built_in: &Path) -> Vec<PathBuf> {
    let own = folder.join("bounded.yaml");
    let text = std::fs::read_to_string(built_in.join("document.yaml")).unwrap();
    let limits = text.find("limits:").unwrap();
    let bounds = "limits: {timeout_seconds: 30, address_space_bytes: 1073741824}\n";
    let text = text[..limits].replace("{here}", &built_in.display().to_string());
    let text = text.replace("document-markitdown", "bounded") + bounds;
    std::fs::write(&own, text).unwrap();
    vec![own]
}

#[tokio::test]
async fn archives_that_would_overwhelm_are_refused_at_once() {
    let bench = Bench::open(ContentType::Document, within_bounds).await;
    let made = samples(&bench, &["bombs"]);
    for (name, why) in [
        ("bomb.docx", "decompression bomb"),
        ("wide.docx", "decompression bomb"),
        ("lying.docx", "damaged"),
        ("many.docx", "more than 10000 entries"),
        ("entities.docx", "declares entities"),
        ("entities16.xlsx", "declares entities"),
        ("external.pptx", "declares entities"),
        ("outside.docx", "leads out of it"),
        ("plain.docx", "none of DOCX"),
    ] {
        let refusal = bench.refusal(&ContentType::Document, &made.join(name), json!({})).await;
        assert!(refusal.contains("`bounded`") && refusal.contains(why), "{name}: {refusal}");
    }
}

#[tokio::test]
async fn archives_within_an_archive_are_left_alone() {
    let bench = Bench::new(ContentType::Document).await;
    let made = samples(&bench, &["bombs"]);
    assert_eq!(bench.document(&made.join("nested.docx")).await.content, "The outer text");
}

#[tokio::test]
async fn nothing_that_a_document_names_is_opened() {
    let bench = Bench::new(ContentType::Document).await;
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let url = format!("http://{}/", server.local_addr().unwrap());
    let secret = bench.file("secret.txt", "the secret itself");
    let made = samples(&bench, &["curious", secret.to_str().unwrap(), &url]);
    for name in ["curious.docx", "curious.html"] {
        // Without the walls around a converter, for the libraries themselves are looked at.
        let output = made.join("output.json");
        let ran = Command::new(python())
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("builtin/document.py"))
            .args([Path::new("--input"), &made.join(name), Path::new("--output"), &output])
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let result: Value = serde_json::from_slice(&std::fs::read(&output).unwrap()).unwrap();
        let content = result["content"].as_str().unwrap();
        assert!(content.contains("a link") && !content.contains("the secret itself"), "{content}");
    }
    assert_eq!(server.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// What stands in for docling, which is too large to install for a test.
const DOCLING: &str = "
from docling.exceptions import ConversionError


class Document:
    name = 'From docling'

    def export_to_markdown(self):
        return self.text


class Result:
    document = Document()


class DocumentConverter:
    def convert(self, source, raises_on_error=True):
        if source.endswith('.html'):
            raise ConversionError('no such thing')
        Result.document.text = f'docling read {source}'
        return Result()
";

#[tokio::test]
async fn docling_is_taken_when_the_job_asks_for_it_and_it_is_there() {
    let bench = Bench::open(ContentType::Document, |_, built_in| {
        for (name, text) in [
            ("docling/__init__.py", ""),
            ("docling/document_converter.py", DOCLING),
            ("docling/exceptions.py", "class ConversionError(RuntimeError):\n    pass\n"),
            ("docling-9.9.dist-info/METADATA", "Metadata-Version: 2.1\nName: docling\nVersion: 9.9\n"),
        ] {
            std::fs::create_dir_all(built_in.join(name).parent().unwrap()).unwrap();
            std::fs::write(built_in.join(name), text).unwrap();
        }
        Vec::new()
    })
    .await;
    let file = bench.file("report.pdf", pdf(&["Hello from page one"]));
    let with = async |options| bench.convert(&ContentType::Document, &file, options).await.0.unwrap();
    let converted = with(json!({"use_docling": true})).await;
    assert!(converted.content.starts_with("docling read /"), "{}", converted.content);
    assert_eq!(
        (&converted.metadata["tool"], &converted.metadata["pages"]),
        (&json!("docling 9.9"), &json!(1))
    );
    assert_eq!(converted.metadata["title"], "Annual Report");
    for (name, bytes, why) in [
        ("page.html", &b"<html>"[..], "docling cannot read it: no such thing"),
        ("protected.pdf", include_bytes!("protected.pdf"), "protected by a password"),
    ] {
        let file = bench.file(name, bytes);
        let refusal = bench.refusal(&ContentType::Document, &file, json!({"use_docling": true})).await;
        assert!(refusal.contains(why), "{name}: {refusal}");
    }
    let converted = with(json!({"use_docling": false})).await;
    assert!(converted.content.contains("Hello from page one"), "{}", converted.content);

    let bench = Bench::new(ContentType::Document).await;
    let converted =
        bench.convert(&ContentType::Document, &file, json!({"use_docling": true})).await.0.unwrap();
    assert!(converted.content.contains("Hello from page one"), "{}", converted.content);
}

/// Makes files by `samples.py` in the bench's folder, which is returned.
pub(crate) fn samples(bench: &Bench, what: &[&str]) -> PathBuf {
    let folder = bench.parent.path();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/builtin/samples.py");
    let made = Command::new(python()).arg(script).arg(folder).args(what).status().unwrap();
    assert!(made.success());
    folder.to_owned()
}

/// A PDF with a line of text on each page.
fn pdf(pages: &[&str]) -> Vec<u8> {
    let drawn = |text: &&str| match *text {
        "" => String::new(),
        text => format!("BT /F1 24 Tf 72 700 Td ({text}) Tj ET"),
    };
    pdf_drawn(&pages.iter().map(drawn).collect::<Vec<_>>())
}

/// A PDF with pages that are drawn so.
pub(crate) fn pdf_drawn(pages: &[String]) -> Vec<u8> {
    let kids: Vec<String> = (0..pages.len()).map(|index| format!("{} 0 R", 4 + 2 * index)).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), pages.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>".to_owned(),
    ];
    for (index, drawn) in pages.iter().enumerate() {
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] \
             /Resources << /Font << /F1 3 0 R >> >> /Contents {} 0 R >>",
            5 + 2 * index
        ));
        objects.push(format!("<< /Length {} >>\nstream\n{drawn}\nendstream", drawn.len()));
    }
    objects.push("<< /Title (Annual Report) >>".to_owned());
    let mut file = "%PDF-1.4\n".to_owned();
    let mut places = Vec::new();
    for (index, object) in objects.iter().enumerate() {
        places.push(file.len());
        file += &format!("{} 0 obj\n{object}\nendobj\n", index + 1);
    }
    let table = file.len();
    file += &format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1);
    for place in places {
        file += &format!("{place:010} 00000 n \n");
    }
    let (size, info) = (objects.len() + 1, objects.len());
    file += &format!("trailer\n<< /Size {size} /Root 1 0 R /Info {info} 0 R >>\nstartxref\n{table}\n%%EOF\n");
    file.into_bytes()
}
