//! What a page needs besides itself: style sheets, one script, one icon, all embedded.
//!
//! The one idea: each has its hash in its address, so that a browser may keep it for ever and still never
//! shows a new page with an old style. nhsuk-frontend's sheet is embedded when `build.rs` found it; the
//! console's own is laid over it and is enough by itself.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

/// An embedded file.
#[derive(Debug)]
pub struct Asset {
    /// Its address on the console.
    pub address: String,
    media_type: &'static str,
    /// What is served.
    pub body: &'static str,
}

impl Asset {
    fn new(stem: &str, extension: &str, media_type: &'static str, body: &'static str) -> Self {
        let digest = Sha256::digest(body.as_bytes());
        let hash: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { address: format!("/assets/{stem}.{hash}.{extension}"), media_type, body }
    }
}

static NHSUK: LazyLock<Option<Asset>> = LazyLock::new(|| {
    #[cfg(has_nhsuk)]
    let sheet = Some(include_str!("../assets/vendor/nhsuk.css"));
    #[cfg(not(has_nhsuk))]
    let sheet = None;
    sheet.map(|body| Asset::new("nhsuk", "css", "text/css; charset=utf-8", body))
});
static OWN: LazyLock<Asset> = LazyLock::new(|| {
    let body = include_str!("../assets/console.css");
    Asset::new("console", "css", "text/css; charset=utf-8", body)
});
static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let body = include_str!("../assets/console.js");
    Asset::new("console", "js", "text/javascript; charset=utf-8", body)
});
static ICON: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("icon", "svg", "image/svg+xml", include_str!("../assets/icon.svg"))
});

/// The style sheets in their order.
pub fn style_sheets() -> impl Iterator<Item = &'static Asset> {
    NHSUK.iter().chain(std::iter::once(&*OWN))
}

/// The script.
pub fn script() -> &'static Asset {
    &SCRIPT
}

/// The icon.
pub fn icon() -> &'static Asset {
    &ICON
}

/// Serves one of them.
pub async fn serve(Path(name): Path<String>) -> Response {
    let all = style_sheets().chain([script(), icon()]);
    let Some(asset) = all.into_iter().find(|asset| asset.address["/assets/".len()..] == name)
    else {
        return (StatusCode::NOT_FOUND, "no such file").into_response();
    };
    let kept_for_ever = "public, max-age=31536000, immutable";
    let headers =
        [(header::CONTENT_TYPE, asset.media_type), (header::CACHE_CONTROL, kept_for_ever)];
    (headers, asset.body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_served_asks_another_host() {
        for asset in style_sheets().chain([script()]) {
            for sign in ["http://", "https://", "url(", "@import", "@font-face", "//cdn"] {
                assert!(!asset.body.contains(sign), "{} has {sign}", asset.address);
            }
        }
        // An SVG names its namespace, which nobody fetches.
        let icon = icon().body.replace("http://www.w3.org/2000/svg", "");
        assert!(!icon.contains("http") && !icon.contains("script"));
    }

    #[test]
    fn the_script_makes_no_markup_out_of_text() {
        for sign in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!script().body.contains(sign), "{sign}");
        }
    }
}
