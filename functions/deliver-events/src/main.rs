//! Wires the function to the Lambda runtime.

use std::sync::Arc;

use deliver_events::HttpCourier;
use runtime::JobSettings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), runtime::LambdaError> {
    let courier = Arc::new(HttpCourier::new(JobSettings::from_env()?.webhook_networks));
    runtime::run_schedule(move |app| {
        let courier = Arc::clone(&courier);
        async move { deliver_events::handle(app, &*courier).await }
    })
    .await
}
