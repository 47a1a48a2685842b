//! `#[operator]` on the implementation of a role.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{ItemImpl, Type};

use crate::options::Options;

pub(crate) fn expand(options: &Options, implementation: &ItemImpl) -> syn::Result<TokenStream> {
    let spans = [options.carry.as_ref().map(|(span, _)| *span), options.reducer];
    if let Some(span) = spans.into_iter().flatten().next() {
        return Err(syn::Error::new(span, "options are for functions: what is implemented here decides for itself"));
    }
    if let Some(path) = options.check.as_ref().or(options.invert.as_ref()) {
        return Err(syn::Error::new_spanned(
            path,
            "options are for functions: what is implemented here decides for itself",
        ));
    }
    let roles = "`#[operator]` stands on an `impl` of `Aggregate`, `Group`, `CoGroup` or `Update`, or on one of a role: \
                 `Transform`, `Reducer`, `Aggregator`, `Grouper`, `Updater`";
    let Some((_, path, _)) = &implementation.trait_ else {
        return Err(syn::Error::new_spanned(&implementation.self_ty, roles));
    };
    let Type::Path(this) = implementation.self_ty.as_ref() else {
        return Err(syn::Error::new_spanned(&implementation.self_ty, "the operator is a struct or an enum"));
    };
    let (Some(role), Some(name)) = (path.segments.last(), this.path.segments.last()) else {
        return Err(syn::Error::new_spanned(path, roles));
    };
    let guest = quote!(::tidemill_guest);
    let (role, operator) = match role.ident.to_string().as_str() {
        "Transform" => ("transform", quote!(#this)),
        "Reducer" => ("reducer", quote!(#this)),
        "Aggregator" => ("aggregator", quote!(#this)),
        "Aggregate" => ("aggregator", quote!(#guest::Aggregating<#this>)),
        "Grouper" => ("grouper", quote!(#this)),
        "Group" => ("grouper", quote!(#guest::Grouping<#this>)),
        "CoGroup" => ("grouper", quote!(#guest::CoGrouping<#this>)),
        "Updater" => ("updater", quote!(#this)),
        "Update" => ("updater", quote!(#guest::Updating<#this>)),
        _ => return Err(syn::Error::new_spanned(path, roles)),
    };
    let export = format_ident!("export_{role}");
    let role = format_ident!("{role}");
    let name = name.ident.to_string();
    Ok(quote! {
        #implementation

        impl #this {
            /// This operator for programs that it is compiled into.
            #[must_use]
            pub fn operator() -> #guest::native::Operator {
                #guest::native::Operator::new(#name).#role::<#operator>()
            }
        }

        #[cfg(target_family = "wasm")]
        #guest::#export!(#operator);
    })
}
