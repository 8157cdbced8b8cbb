//! The HTTP API, the REST API and the OpenAPI document against the one route table.

use std::collections::BTreeSet;

use api::{Function, ROUTES};
use serde_json::Value;

use crate::yaml::{of_type, properties, resources};

/// A method, a path, and the function behind it.
type Line = (String, String, String);

/// What is to be found on AWS.
fn expected() -> BTreeSet<Line> {
    let on_aws = ROUTES.iter().filter(|route| route.function != Function::Gateway);
    on_aws
        .map(|route| (route.method.to_string(), route.path.to_owned(), format!("{:?}", route.function)))
        .collect()
}

/// The function that an integration of the HTTP API leads to.
fn behind(target: &str) -> String {
    let integration = target.strip_prefix("integrations/${").unwrap().strip_suffix('}').unwrap();
    let properties = properties(integration);
    assert_eq!(properties["PayloadFormatVersion"], "2.0", "{integration}");
    properties["IntegrationUri"].as_str().unwrap().strip_suffix(".Arn").unwrap().to_owned()
}

#[test]
fn the_http_api_has_the_routes_of_the_table() {
    let mut found = BTreeSet::new();
    let mut other = Vec::new();
    for (name, route) in of_type("AWS::ApiGatewayV2::Route") {
        assert_eq!(resources()[name]["Condition"], "HasHttpApi", "{name}");
        let function = behind(route["Target"].as_str().unwrap());
        match route["RouteKey"].as_str().unwrap().split_once(' ') {
            Some((method, path)) => {
                assert!(
                    found.insert((method.to_owned(), path.to_owned(), function)),
                    "{name} is there twice"
                );
            }
            None => other.push((route["RouteKey"].as_str().unwrap(), function)),
        }
    }
    assert_eq!(found, expected());
    // What creates jobs must be behind the default route: a client of the original system ends its path with a slash.
    assert_eq!(other, [("$default", "CreateJob".to_owned())]);
}

#[test]
fn the_rest_api_has_the_routes_of_the_table() {
    let mut found = BTreeSet::new();
    for (path, methods) in properties("RestApi")["DefinitionBody"]["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let integration = &operation["x-amazon-apigateway-integration"];
            assert_eq!(
                (&integration["type"], &integration["httpMethod"]),
                (&"aws_proxy".into(), &"POST".into())
            );
            let uri = integration["uri"].as_str().unwrap();
            let function =
                uri.split("/functions/${").nth(1).unwrap().strip_suffix(".Arn}/invocations").unwrap();
            found.insert((method.to_uppercase(), path.clone(), function.to_owned()));
        }
    }
    assert_eq!(found, expected());
}

#[test]
fn the_openapi_document_has_the_routes_of_the_table() {
    let document = api::openapi();
    let mut found = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let function = operation["tags"][0].as_str().unwrap();
            // The document tells of the gateway's own calls as well.
            if function != "Gateway" {
                found.insert((method.to_uppercase(), path.clone(), function.to_owned()));
            }
        }
    }
    assert_eq!(found, expected());
}

#[test]
fn the_api_may_call_every_function_of_a_route() {
    let called: BTreeSet<String> = expected().into_iter().map(|(_, _, function)| function).collect();
    let permitted: BTreeSet<String> = of_type("AWS::Lambda::Permission")
        .filter(|(_, permission)| permission["Principal"] == "apigateway.amazonaws.com")
        .map(|(_, permission)| permission["FunctionName"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(permitted, called);
}

#[test]
fn both_apis_are_throttled_and_logged() {
    let http = properties("HttpStage");
    let rest = properties("RestApi");
    for settings in [&http["DefaultRouteSettings"], &rest["MethodSettings"][0]] {
        assert_eq!(settings["ThrottlingRateLimit"], "ThrottleRate");
        assert_eq!(settings["ThrottlingBurstLimit"], "ThrottleBurst");
    }
    for settings in [&http["AccessLogSettings"], &rest["AccessLogSetting"]] {
        let format = settings["Format"].as_str().unwrap();
        serde_json::from_str::<Value>(format).unwrap();
        // Queries of presigned URLs and headers with keys are nobody's to read.
        assert!(!format.to_lowercase().contains("query") && !format.contains("header"), "{format}");
    }
}
