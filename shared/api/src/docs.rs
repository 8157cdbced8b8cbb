/// The page at `/docs`. It reads `/openapi.json` of the same server and fetches nothing from elsewhere.
pub const DOCS_PAGE: &str = include_str!("docs.html");
