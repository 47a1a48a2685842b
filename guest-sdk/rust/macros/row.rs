//! `#[derive(Row)]`.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::{
    Data, DeriveInput, Fields, GenericArgument, GenericParam, Lifetime, LitStr, PathArguments, Type, parse_quote,
};

/// The type with every lifetime in it, written or left out, replaced by one; `'static` stays.
pub(crate) fn with_lifetime(ty: &Type, lifetime: &Lifetime) -> Type {
    let mut ty = ty.clone();
    replace_lifetimes(&mut ty, lifetime);
    ty
}

fn replace_lifetimes(ty: &mut Type, lifetime: &Lifetime) {
    let replace = |found: &mut Lifetime| {
        if found.ident != "static" {
            *found = lifetime.clone();
        }
    };
    match ty {
        Type::Reference(reference) => {
            replace(reference.lifetime.get_or_insert_with(|| lifetime.clone()));
            replace_lifetimes(&mut reference.elem, lifetime);
        }
        Type::Path(path) => {
            for segment in &mut path.path.segments {
                let PathArguments::AngleBracketed(arguments) = &mut segment.arguments else { continue };
                for argument in &mut arguments.args {
                    match argument {
                        GenericArgument::Lifetime(found) => replace(found),
                        GenericArgument::Type(ty) => replace_lifetimes(ty, lifetime),
                        _ => {}
                    }
                }
            }
        }
        Type::Slice(slice) => replace_lifetimes(&mut slice.elem, lifetime),
        Type::Array(array) => replace_lifetimes(&mut array.elem, lifetime),
        Type::Paren(inner) => replace_lifetimes(&mut inner.elem, lifetime),
        Type::Group(inner) => replace_lifetimes(&mut inner.elem, lifetime),
        Type::Tuple(tuple) => tuple.elems.iter_mut().for_each(|ty| replace_lifetimes(ty, lifetime)),
        _ => {}
    }
}

/// Where a type says `'static`, if it does: no row is read that lives so long.
fn static_lifetime(tokens: TokenStream) -> Option<Span> {
    let mut after_quote = false;
    for token in tokens {
        match token {
            TokenTree::Ident(ident) if after_quote && ident == "static" => return Some(ident.span()),
            TokenTree::Group(group) => {
                if let Some(span) = static_lifetime(group.stream()) {
                    return Some(span);
                }
                after_quote = false;
            }
            TokenTree::Punct(punct) => after_quote = punct.as_char() == '\'',
            _ => after_quote = false,
        }
    }
    None
}

struct Column {
    ident: syn::Ident,
    name: LitStr,
    ty: Type,
    ty_static: Type,
}

fn column(field: &syn::Field) -> syn::Result<Column> {
    let ident = field.ident.clone().ok_or_else(|| syn::Error::new_spanned(field, "a row's fields have names"))?;
    let unraw = ident.to_string();
    let mut name = LitStr::new(unraw.strip_prefix("r#").unwrap_or(&unraw), ident.span());
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("row")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("rename") {
                name = meta.value()?.parse()?;
                Ok(())
            } else {
                Err(meta.error("unknown option: there is `rename = \"...\"`"))
            }
        })?;
    }
    if let Some(lifetime) = static_lifetime(field.ty.to_token_stream()) {
        return Err(syn::Error::new(lifetime, "what is borrowed has the struct's lifetime: `struct Row<'a>`"));
    }
    let ty_static = with_lifetime(&field.ty, &parse_quote!('static));
    Ok(Column { ident, name, ty: field.ty.clone(), ty_static })
}

pub(crate) fn derive(input: &DeriveInput) -> syn::Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new_spanned(input, "a row is a struct"));
    };
    let columns = match &data.fields {
        Fields::Named(fields) => fields.named.iter().map(column).collect::<syn::Result<Vec<_>>>()?,
        Fields::Unit => Vec::new(),
        Fields::Unnamed(fields) => return Err(syn::Error::new_spanned(fields, "a row's fields have names")),
    };
    for (i, column) in columns.iter().enumerate() {
        if columns[..i].iter().any(|other| other.name.value() == column.name.value()) {
            return Err(syn::Error::new_spanned(&column.name, "two fields have the same column"));
        }
    }
    let mut lifetimes = Vec::new();
    for parameter in &input.generics.params {
        match parameter {
            GenericParam::Lifetime(lifetime) => lifetimes.push(lifetime.lifetime.clone()),
            other => return Err(syn::Error::new_spanned(other, "a row has no parameter but a lifetime")),
        }
    }
    if let [_, second, ..] = lifetimes.as_slice() {
        return Err(syn::Error::new_spanned(second, "a row has at most one lifetime"));
    }

    let struct_name = &input.ident;
    let lifetime = lifetimes.first().cloned().unwrap_or_else(|| parse_quote!('row));
    let (this, this_generics, with_x) = if lifetimes.is_empty() {
        (quote!(#struct_name), quote!(), quote!(#struct_name))
    } else {
        (quote!(#struct_name<#lifetime>), quote!(<#lifetime>), quote!(#struct_name<'x>))
    };
    let make = match data.fields {
        Fields::Unit => quote!(#struct_name),
        _ => {
            let idents = columns.iter().map(|column| &column.ident);
            quote!(#struct_name { #(#idents),* })
        }
    };
    let builder = format_ident!("{struct_name}Builder");
    let view = format_ident!("{struct_name}Columns");
    let ident: Vec<_> = columns.iter().map(|column| &column.ident).collect();
    let name: Vec<_> = columns.iter().map(|column| &column.name).collect();
    let ty: Vec<_> = columns.iter().map(|column| &column.ty).collect();
    let ty_static: Vec<_> = columns.iter().map(|column| &column.ty_static).collect();
    let n_columns = columns.len();
    let position = 0..n_columns;
    let rt = quote!(::tidemill_guest::rt);
    let guest = quote!(::tidemill_guest);

    Ok(quote! {
        #[allow(missing_docs, unused_variables, unreachable_pub, clippy::all)]
        const _: () = {
            #[derive(Debug)]
            pub struct #builder {
                #(#ident: <#ty_static as #rt::Value>::Builder,)*
            }

            impl #rt::BuildRow for #builder {
                fn with_hints(hints: &mut #rt::Hints<'_>) -> Self {
                    Self { #(#ident: #guest::builder::Build::with_hints(hints),)* }
                }

                fn push_blank(&mut self) {
                    #(#guest::builder::Build::push_blank(&mut self.#ident);)*
                }

                fn finish(self, out: &mut #guest::OwnedBatch) {
                    #(#guest::builder::Build::finish(self.#ident, #guest::builder::Validity::ALL, out);)*
                }
            }

            impl #this_generics #rt::Value for #this {
                type Builder = #guest::builder::StructBuilder<#builder>;

                fn field(name: &str) -> #guest::Field {
                    #rt::struct_field::<Self>(name)
                }

                fn accepts(field: &#guest::Field) -> bool {
                    #rt::struct_accepts::<Self>(field)
                }

                fn append_to(self, builder: &mut Self::Builder) {
                    builder.push_with(|columns| #guest::Row::push_row(self, columns));
                }
            }

            impl #this_generics #guest::Row for #this {
                type RowBuilder = #builder;
                type With<'x> = #with_x;

                fn fields() -> ::std::vec::Vec<#guest::Field> {
                    ::std::vec![#(<#ty_static as #rt::Value>::field(#name)),*]
                }

                fn accepts_fields(fields: &[#guest::Field]) -> bool {
                    fields.len() == #n_columns
                        #(&& fields[#position].name == #name
                            && <#ty_static as #rt::Value>::accepts(&fields[#position]))*
                }

                fn check(schema: &#guest::Schema) -> ::std::result::Result<(), #guest::Refusal> {
                    #(#rt::check_column::<#ty_static>(schema, #name)?;)*
                    ::std::result::Result::Ok(())
                }

                #[inline]
                fn push_row(self, builder: &mut Self::RowBuilder) {
                    #(#rt::Value::append_to(self.#ident, &mut builder.#ident);)*
                }
            }

            #[derive(Debug, Clone)]
            pub struct #view<#lifetime> {
                #(pub #ident: <#ty as #rt::Read<#lifetime>>::Column,)*
                row: ::std::marker::PhantomData<&#lifetime ()>,
            }

            impl<#lifetime> #rt::Read<#lifetime> for #this {
                type Column = #rt::StructColumn<#lifetime, #view<#lifetime>>;

                fn column(cursor: &mut #rt::Cursor<#lifetime>) -> Self::Column {
                    #rt::StructColumn::take(cursor, <Self as #guest::ReadRow<#lifetime>>::child_columns)
                }

                #[inline]
                fn get(column: &Self::Column, index: usize) -> ::std::option::Option<Self> {
                    if column.validity().is_null(index) {
                        return ::std::option::Option::None;
                    }
                    <Self as #guest::ReadRow<#lifetime>>::row(column.columns(), index)
                }
            }

            impl<#lifetime> #guest::ReadRow<#lifetime> for #this {
                type Columns = #view<#lifetime>;

                fn columns(
                    batch: &#guest::Batch<#lifetime>,
                ) -> ::std::result::Result<Self::Columns, #guest::Refusal> {
                    ::std::result::Result::Ok(#view {
                        #(#ident: #rt::read_column::<#ty>(batch, #name)?,)*
                        row: ::std::marker::PhantomData,
                    })
                }

                fn child_columns(cursor: &mut #rt::Cursor<#lifetime>) -> Self::Columns {
                    #view {
                        #(#ident: <#ty as #rt::Read<#lifetime>>::column(cursor),)*
                        row: ::std::marker::PhantomData,
                    }
                }

                #[inline]
                fn row(columns: &Self::Columns, index: usize) -> ::std::option::Option<Self> {
                    #(let #ident = <#ty as #rt::Read<#lifetime>>::get(&columns.#ident, index)?;)*
                    ::std::option::Option::Some(#make)
                }

                fn null_column(columns: &Self::Columns, index: usize) -> ::std::option::Option<&'static str> {
                    #(if <#ty as #rt::Read<#lifetime>>::get(&columns.#ident, index).is_none() {
                        return ::std::option::Option::Some(#name);
                    })*
                    ::std::option::Option::None
                }
            }
        };
    })
}
