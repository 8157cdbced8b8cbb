/// What differs from run to run, and what is shown in its place.
const DIFFERS: [(&str, &str); 14] = [
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[457][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", "[uuid]"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", "[time]"),
    (r"\.\d{13}\.(\d+)", ".[ended].$1"),
    (r"whsec_[A-Za-z0-9+/]{43}=", "[webhook secret]"),
    (r"127\.0\.0\.1:\d+", "[host]"),
    (r"X-Amz-(Credential|Date|Signature)=[^&\x22]*", "X-Amz-$1=[…]"),
    (r"[0-9a-f]{16}\.[A-Za-z0-9_-]{43}", "[api key]"),
    (r#""key_id": "[0-9a-f]{16}""#, r#""key_id": "[key id]""#),
    (r"[Kk]ey [0-9a-f]{16}", "Key [key id]"),
    (r#""lease_token": "[A-Za-z0-9_-]{43}""#, r#""lease_token": "[lease token]""#),
    (r#""(multipart_upload_id)": "[^"]+""#, r#""$1": "[multipart upload id]""#),
    (r#""version": "[^"]+""#, r#""version": "[version]""#),
    (r#""(cursor|first)": "[A-Za-z0-9_-]{40,}""#, r#""$1": "[cursor]""#),
    (r"uploadId=[^&\x22]+", "uploadId=[…]"),
];

/// Runs an assertion of a snapshot with everything replaced that differs from run to run.
pub fn redacted(assertion: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    settings.set_filters(DIFFERS.to_vec());
    settings.set_omit_expression(true);
    settings.set_sort_maps(true);
    settings.bind(assertion);
}
