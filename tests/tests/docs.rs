//! `GET /health`, `/openapi.json` and `/docs`, which anyone may read.

use system_tests::{Site, snapshot};

#[tokio::test]
async fn the_service_says_that_it_is_up() {
    let site = Site::start().await;
    snapshot!(site.admin.anonymous().get("/health").await.shown());
}

#[tokio::test]
async fn the_document_describes_every_call() {
    let site = Site::start().await;
    let answer = site.admin.anonymous().get("/openapi.json").await;
    let document = answer.ok();
    assert_eq!(document, api::openapi());
    for route in &api::ROUTES {
        let method = route.method.as_str().to_ascii_lowercase();
        assert!(document["paths"][route.path][&method].is_object(), "{method} {}", route.path);
    }
    let mut shown = answer.shown();
    shown["body"] = "the document".into();
    snapshot!(shown);
}

#[tokio::test]
async fn the_page_fetches_nothing_from_elsewhere() {
    let site = Site::start().await;
    let answer = site.admin.anonymous().get("/docs").await;
    let page = answer.text();
    assert!(page.contains("openapi.json"), "{page}");
    for elsewhere in ["src=\"http", "href=\"http", "@import", "url(http"] {
        assert!(!page.contains(elsewhere), "the page has {elsewhere}");
    }
    let mut shown = answer.shown();
    shown["body"] = "the page".into();
    snapshot!(shown);
}
