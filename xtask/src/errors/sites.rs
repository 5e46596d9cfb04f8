//! Where a source file makes an error, hands one on, or does something about one: read from its syntax.
//!
//! A site is a place that the program reaches only with an error in hand (or, for `?`, with nothing in hand):
//!
//! - `Err(...)` as a value, and the error branch of each `?`;
//! - what follows `Err(..) =>`, `if let Err(..) = ..`, and the `else` of `let Ok(..) = ..` and `if let Ok(..) = ..`;
//! - the closures given to `map_err`, `ok_or_else`, `or_else`, `unwrap_or_else`, `map_or_else` and `inspect_err` that take
//!   an error.
//!
//! Not among them: an error that is handed on as the last expression of a function, without a word of its own, which is
//! a site of the caller; an arm that errors share with successes; and what is only compiled for tests.

use proc_macro2::{LineColumn, Span};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Arm, Attribute, Expr, ExprCall, ExprClosure, ExprIf, ExprMethodCall, ExprTry, Item, Local, Pat, Stmt};

/// A place that is reached only with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What it is, as a reader would say it.
    pub what: &'static str,
}

/// The sites of a source text, in order.
///
/// # Errors
/// The text is no Rust.
pub fn sites(text: &str) -> Result<Vec<Site>, String> {
    let file = syn::parse_file(text).map_err(|error| error.to_string())?;
    let mut finder = Finder::default();
    finder.visit_file(&file);
    finder.found.sort();
    finder.found.dedup_by_key(|site| (site.line, site.column));
    Ok(finder.found)
}

#[derive(Default)]
struct Finder {
    found: Vec<Site>,
}

impl Finder {
    fn add(&mut self, span: Span, what: &'static str) {
        let LineColumn { line, column } = span.start();
        self.found.push(Site { line, column: column + 1, what });
    }

    /// The first thing that is done there: a brace by itself does nothing.
    fn add_body(&mut self, body: &Expr, what: &'static str) {
        match body {
            Expr::Block(block) => self.add_block(&block.block, what),
            other => self.add(other.span(), what),
        }
    }

    fn add_block(&mut self, block: &syn::Block, what: &'static str) {
        match block.stmts.first() {
            Some(Stmt::Expr(first, _)) => self.add_body(first, what),
            Some(first) => self.add(first.span(), what),
            None => self.add(block.span(), what),
        }
    }
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Mod(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            _ => &[],
        };
        if !attributes.iter().any(is_for_tests) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !function.attrs.iter().any(is_for_tests) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_expr_try(&mut self, tried: &'ast ExprTry) {
        self.add(tried.question_token.span(), "the error of this `?`");
        visit::visit_expr_try(self, tried);
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        if let Expr::Path(path) = &*call.func
            && path.path.is_ident("Err")
        {
            self.add(call.span(), "this `Err(..)`");
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_arm(&mut self, arm: &'ast Arm) {
        if names(&arm.pat, "Err") && !names_success(&arm.pat) {
            self.add_body(&arm.body, "what follows this `Err(..) =>`");
        }
        visit::visit_arm(self, arm);
    }

    fn visit_expr_if(&mut self, branch: &'ast ExprIf) {
        let mut patterns = Vec::new();
        gather(&branch.cond, &mut patterns);
        if patterns.iter().any(|pattern| names(pattern, "Err")) {
            self.add_block(&branch.then_branch, "what is done `if let Err(..)`");
        }
        if let (Expr::Let(only), Some((_, otherwise))) = (&*branch.cond, &branch.else_branch)
            && names(&only.pat, "Ok")
        {
            self.add_body(otherwise, "the `else` of this `if let Ok(..)`");
        }
        visit::visit_expr_if(self, branch);
    }

    fn visit_local(&mut self, local: &'ast Local) {
        if let Some(diverge) = local.init.as_ref().and_then(|init| init.diverge.as_ref())
            && names(&local.pat, "Ok")
        {
            self.add_body(&diverge.1, "the `else` of this `let Ok(..)`");
        }
        visit::visit_local(self, local);
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        let closure = call.args.first().and_then(|argument| match argument {
            Expr::Closure(closure) => Some(closure),
            _ => None,
        });
        if let Some(closure) = closure
            && takes_an_error(&call.method.to_string(), closure)
        {
            self.add_body(&closure.body, "what this closure does with an error");
        }
        visit::visit_expr_method_call(self, call);
    }
}

/// `#[test]`, `#[cfg(test)]`.
fn is_for_tests(attribute: &Attribute) -> bool {
    let is_cfg_test = || attribute.parse_args::<syn::Ident>().is_ok_and(|word| word == "test");
    attribute.path().is_ident("test") || attribute.path().is_ident("cfg") && is_cfg_test()
}

/// Whether a closure given to this method is called for an error, or for what is missing.
fn takes_an_error(method: &str, closure: &ExprClosure) -> bool {
    match method {
        "map_err" | "inspect_err" | "ok_or_else" => true,
        // Those of `Option` take nothing, and make a default.
        "unwrap_or_else" | "or_else" | "map_or_else" => closure.inputs.len() == 1,
        _ => false,
    }
}

/// The patterns of a condition: `let A = a && let B = b`.
fn gather<'ast>(condition: &'ast Expr, patterns: &mut Vec<&'ast Pat>) {
    match condition {
        Expr::Let(one) => patterns.push(&one.pat),
        Expr::Binary(both) => {
            gather(&both.left, patterns);
            gather(&both.right, patterns);
        }
        _ => {}
    }
}

/// Whether a pattern holds this constructor, at any depth.
fn names(pattern: &Pat, constructor: &str) -> bool {
    match pattern {
        Pat::TupleStruct(inner) => {
            inner.path.is_ident(constructor) || inner.elems.iter().any(|pattern| names(pattern, constructor))
        }
        Pat::Tuple(tuple) => tuple.elems.iter().any(|pattern| names(pattern, constructor)),
        Pat::Or(or) => or.cases.iter().any(|pattern| names(pattern, constructor)),
        Pat::Paren(inner) => names(&inner.pat, constructor),
        Pat::Guard(guarded) => names(&guarded.pat, constructor),
        Pat::Reference(inner) => names(&inner.pat, constructor),
        Pat::Ident(ident) => ident.subpat.as_ref().is_some_and(|(_, pattern)| names(pattern, constructor)),
        _ => false,
    }
}

/// Whether an arm is shared: one of its patterns holds no error.
fn names_success(pattern: &Pat) -> bool {
    matches!(pattern, Pat::Or(or) if or.cases.iter().any(|case| !names(case, "Err")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let lines: Vec<&str> = text.lines().collect();
        let at = |site: Site| lines[site.line - 1].chars().skip(site.column - 1).take(6).collect::<String>();
        sites(text).unwrap().into_iter().map(at).collect()
    }

    #[test]
    fn each_kind_of_site_is_found_where_its_error_goes() {
        assert_eq!(found("fn f() -> R {\n    g()?;\n    return Err(One);\n}\n"), ["?;", "Err(On"]);
        assert_eq!(
            found("fn f() {\n match g() { Ok(_) => a(), Err(e) if x => { b() } Some(Err(_)) => c(), }\n}\n"),
            ["b() } ", "c(), }"]
        );
        assert_eq!(found("fn f() {\n if y && let Err(e) = g() {\n  tell(e);\n }\n}\n"), ["tell(e"]);
        assert_eq!(found("fn f() {\n if let Ok(x) = g() { a() } else { b() }\n}\n"), ["b() }"]);
        assert_eq!(found("fn f() {\n let Ok(x) = g() else { return };\n}\n"), ["return"]);
        assert_eq!(found("fn f() {\n g().map_err(|e| h(e)).unwrap_or_else(|e| i(e));\n}\n"), ["h(e)).", "i(e));"]);
    }

    #[test]
    fn what_is_shared_with_success_or_for_tests_only_is_no_site() {
        assert_eq!(found("fn f() {\n match g() { Ok(_) | Err(_) => a() }\n}\n"), [""; 0]);
        assert_eq!(found("fn f() {\n g().unwrap_or_else(|| 1);\n}\n"), [""; 0]);
        assert_eq!(found("#[cfg(test)]\nmod tests {\n fn f() { g()? }\n}\n#[test]\nfn t() { Err(1) }\n"), [""; 0]);
        assert_eq!(found("impl A {\n #[cfg(test)]\n fn f() { g()? }\n}\n"), [""; 0]);
        assert!(sites("fn f( {").is_err());
    }
}
