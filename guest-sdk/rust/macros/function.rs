//! `#[operator]` on a function.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    FnArg, GenericArgument, Ident, ItemFn, PathArguments, PathSegment, ReturnType, Type, TypeParamBound, parse_quote,
};

use crate::options::{Carry, Options};
use crate::row::with_lifetime;

/// What a function's parameters are for, by position.
enum Parameter {
    /// A row, or the rows of a whole batch; by reference or not.
    Row { by_reference: bool },
    /// `&C`.
    Config,
    /// `&Call`.
    Call,
    /// `&mut Emitter<Row>`.
    Emitter,
}

/// What a function's result means.
enum Result {
    /// Nothing: rows are emitted.
    Nothing,
    /// Whether the row stays.
    Keep,
    /// One row, or perhaps one, or any number of them.
    Rows(Vec<Shape>, Box<Type>),
}

/// One layer of a result's type.
enum Shape {
    One,
    Many,
}

struct Signature {
    parameters: Vec<Parameter>,
    /// The type of the row; of a whole batch when `is_batch`.
    row: Type,
    is_batch: bool,
    config: Option<Type>,
    emits: Option<Type>,
    /// Whether the result is a `Result`, and what is in it.
    fallible: bool,
    result: Result,
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ty {
        Type::Path(path) => path.path.segments.last(),
        Type::Paren(inner) => last_segment(&inner.elem),
        Type::Group(inner) => last_segment(&inner.elem),
        _ => None,
    }
}

fn type_argument(segment: &PathSegment) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}

/// The type with every lifetime left to be inferred.
fn inferred(ty: &Type) -> Type {
    with_lifetime(ty, &parse_quote!('_))
}

impl Signature {
    fn parse(function: &ItemFn, n_rows: usize) -> syn::Result<Self> {
        let signature = &function.sig;
        if let Some(token) = &signature.asyncness {
            return Err(syn::Error::new_spanned(token, "an operator's function is not async"));
        }
        if let Some(parameter) = signature.generics.type_params().next() {
            return Err(syn::Error::new_spanned(parameter, "an operator's function has no type parameters"));
        }
        let (mut parameters, mut row, mut is_batch) = (Vec::new(), None, false);
        let (mut config, mut emits) = (None, None);
        for (i, input) in signature.inputs.iter().enumerate() {
            let FnArg::Typed(input) = input else {
                return Err(syn::Error::new_spanned(input, "an operator's function has no `self`"));
            };
            let (ty, by_reference, mutable) = match input.ty.as_ref() {
                Type::Reference(reference) => (reference.elem.as_ref(), true, reference.mutability.is_some()),
                ty => (ty, false, false),
            };
            let segment = last_segment(ty);
            if i < n_rows {
                parameters.push(Parameter::Row { by_reference });
                is_batch = segment.is_some_and(|segment| segment.ident == "Rows");
                row = match segment.filter(|_| is_batch) {
                    None => Some(inferred(ty)),
                    Some(rows) => type_argument(rows).map(inferred),
                };
                continue;
            }
            if !by_reference {
                let text = "after the row come `&Call`, `&mut Emitter<Row>` and a configuration, as a reference";
                return Err(syn::Error::new_spanned(ty, text));
            }
            if mutable {
                let row = segment.filter(|segment| segment.ident == "Emitter").and_then(type_argument);
                let row = row.ok_or_else(|| syn::Error::new_spanned(ty, "only an `Emitter<Row>` is mutable"))?;
                if emits.replace(inferred(row)).is_some() {
                    return Err(syn::Error::new_spanned(ty, "there is one emitter"));
                }
                parameters.push(Parameter::Emitter);
            } else if segment.is_some_and(|segment| segment.ident == "Call") {
                parameters.push(Parameter::Call);
            } else {
                if config.replace(ty.clone()).is_some() {
                    return Err(syn::Error::new_spanned(ty, "there is one configuration"));
                }
                parameters.push(Parameter::Config);
            }
        }
        let Some(row) = row.filter(|_| parameters.len() >= n_rows) else {
            let text = if n_rows == 2 { "a reducer takes two rows" } else { "an operator's function takes a row" };
            return Err(syn::Error::new_spanned(&signature.ident, text));
        };
        let (fallible, result) = parse_result(&signature.output)?;
        Ok(Self { parameters, row, is_batch, config, emits, fallible, result })
    }

    /// The call of the function, `rows` being what its rows are called.
    fn call(&self, name: &Ident, rows: &[&str]) -> TokenStream {
        let mut rows = rows.iter().map(|name| Ident::new(name, Span::call_site()));
        let arguments = self.parameters.iter().map(|parameter| match parameter {
            Parameter::Row { by_reference } => {
                let row = rows.next();
                if *by_reference { quote!(&#row) } else { quote!(#row) }
            }
            Parameter::Config => quote!(&self.config),
            Parameter::Call => quote!(call),
            Parameter::Emitter => quote!(&mut out),
        });
        quote!(#name(#(#arguments),*))
    }

    fn config(&self) -> Type {
        // A step of an operator without configuration may have none.
        self.config.clone().unwrap_or_else(|| parse_quote!(::tidemill_guest::rt::NoConfig))
    }
}

fn parse_result(output: &ReturnType) -> syn::Result<(bool, Result)> {
    let ReturnType::Type(_, ty) = output else { return Ok((false, Result::Nothing)) };
    match last_segment(ty) {
        Some(segment) if segment.ident == "Result" => match type_argument(segment) {
            Some(ty) => Ok((true, parse_shape(ty)?)),
            None => Err(syn::Error::new_spanned(ty, "write out what is in the `Result`")),
        },
        _ => Ok((false, parse_shape(ty)?)),
    }
}

fn parse_shape(ty: &Type) -> syn::Result<Result> {
    let (mut shapes, mut ty) = (Vec::new(), ty);
    loop {
        match ty {
            Type::Tuple(tuple) if tuple.elems.is_empty() && shapes.is_empty() => return Ok(Result::Nothing),
            Type::ImplTrait(bounds) => {
                let item = bounds.bounds.iter().find_map(|bound| match bound {
                    TypeParamBound::Trait(bound) => bound.path.segments.last().and_then(item_of),
                    _ => None,
                });
                shapes.push(Shape::Many);
                let text = "an iterator's rows are named: `impl Iterator<Item = Row>`";
                ty = item.ok_or_else(|| syn::Error::new_spanned(bounds, text))?;
            }
            _ => match last_segment(ty) {
                Some(segment) if segment.ident == "bool" && shapes.is_empty() => return Ok(Result::Keep),
                Some(segment) if segment.ident == "Option" || segment.ident == "Vec" => {
                    shapes.push(Shape::Many);
                    let text = "write out what is in it";
                    ty = type_argument(segment).ok_or_else(|| syn::Error::new_spanned(segment, text))?;
                }
                Some(_) => {
                    shapes.push(Shape::One);
                    return Ok(Result::Rows(shapes, Box::new(inferred(ty))));
                }
                None => {
                    let text = "a function answers a row, `bool`, or an `Option`, a `Vec` or an iterator of rows";
                    return Err(syn::Error::new_spanned(ty, text));
                }
            },
        }
    }
}

fn item_of(segment: &PathSegment) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(item) if item.ident == "Item" => Some(&item.ty),
        _ => None,
    })
}

pub(crate) fn expand(options: &Options, function: ItemFn) -> syn::Result<TokenStream> {
    let name = &function.sig.ident;
    let operator = format_ident!("__TidemillOperator_{name}");
    let name_text = name.to_string();
    let (role, body) = match options.reducer {
        Some(_) => ("reducer", reducer(options, &function, &operator)?),
        None => ("transform", transform(options, &function, &operator)?),
    };
    let export = format_ident!("export_{role}");
    let role = format_ident!("{role}");
    let guest = quote!(::tidemill_guest);
    let visibility = &function.vis;
    let hidden = match visibility {
        syn::Visibility::Public(_) => quote!(pub),
        _ => quote!(pub(crate)),
    };
    let text = format!("[`fn@{name}`] as an operator.");
    Ok(quote! {
        #function

        #[doc(hidden)]
        #[allow(non_camel_case_types, missing_docs, unreachable_pub)]
        #body

        #[doc = #text]
        #[allow(unreachable_pub, dead_code)]
        #hidden mod #name {
            /// This operator for programs that it is compiled into.
            #[must_use]
            pub fn operator() -> #guest::native::Operator {
                #guest::native::Operator::new(#name_text).#role::<super::#operator>()
            }
        }

        #[cfg(target_family = "wasm")]
        #guest::#export!(#operator);
    })
}

fn open_config(options: &Options, config: &Type) -> TokenStream {
    let check = match &options.check {
        Some(check) => quote!(#check),
        None => quote!(|_| ::std::result::Result::<(), ::tidemill_guest::Reject>::Ok(())),
    };
    quote!(::tidemill_guest::rt::open_config::<#config, _>(step, #check)?)
}

fn transform(options: &Options, function: &ItemFn, operator: &Ident) -> syn::Result<TokenStream> {
    let signature = Signature::parse(function, 1)?;
    let guest = quote!(::tidemill_guest);
    let rt = quote!(#guest::rt);
    let name = &function.sig.ident;
    let (row, config) = (&signature.row, signature.config());
    if let (Some(check), None) = (&options.check, &signature.config) {
        return Err(syn::Error::new_spanned(check, "there is no configuration to check"));
    }
    let carry = options.carry.as_ref().map(|(_, carry)| carry);
    let call = signature.call(name, &["row"]);

    let (writes, process, default) = match (&signature.result, &signature.emits) {
        (Result::Keep, Some(_)) | (Result::Rows(..), Some(_)) => {
            let text = "a function that emits rows answers nothing, or a `Result` of nothing";
            return Err(syn::Error::new_spanned(&function.sig.output, text));
        }
        (Result::Nothing, None) => {
            let text = "a function answers rows or `bool`, or emits to an `&mut Emitter<Row>`";
            return Err(syn::Error::new_spanned(&function.sig.ident, text));
        }
        (Result::Keep | Result::Rows(..), None) if signature.is_batch => {
            let text = "a function of a whole batch emits its rows to an `&mut Emitter<Row>`";
            return Err(syn::Error::new_spanned(&function.sig.output, text));
        }
        (Result::Keep, None) => {
            let keep = if signature.fallible {
                quote!(#call.map_err(|error| ::std::string::ToString::to_string(&error)))
            } else {
                quote!(::std::result::Result::Ok(#call))
            };
            let process = quote!(#rt::filter::<#row>(input, |row| #keep));
            (None, process, Carry::Everything)
        }
        (Result::Nothing, Some(emits)) if signature.is_batch => {
            let run = if signature.fallible { quote!(#call?;) } else { quote!(#call;) };
            let process = quote! {
                let row = #rt::rows::<#row>(input)?;
                let n_rows = row.len();
                let mut out = #guest::Emitter::<#emits>::start(&self.sizes, n_rows, self.keeps_origin);
                row.reject_nulls(&mut out);
                #run
                out.finish(&mut self.sizes, n_rows)
            };
            (Some(emits), process, Carry::Nothing)
        }
        (result, emits) => {
            let emit = match result {
                Result::Rows(shapes, _) => emit(shapes),
                _ => quote!(),
            };
            let emits = match (result, emits) {
                (Result::Rows(_, ty), _) => ty.as_ref(),
                (_, Some(emits)) => emits,
                // Ruled out above: a function without a result has an emitter.
                _ => return Err(syn::Error::new_spanned(name, "this function emits nothing")),
            };
            let run = if signature.fallible {
                quote! {
                    match #call {
                        ::std::result::Result::Ok(value) => { #emit }
                        ::std::result::Result::Err(error) => out.reject(index as u32, error),
                    }
                }
            } else if matches!(result, Result::Nothing) {
                quote!(#call;)
            } else {
                quote!(let value = #call; #emit)
            };
            let process = quote! {
                if input.n_rows() == 0 {
                    return ::std::result::Result::Ok(::std::default::Default::default());
                }
                let rows = #rt::rows::<#row>(input)?;
                let mut out = #guest::Emitter::<#emits>::start(&self.sizes, rows.len(), self.keeps_origin);
                for index in 0..rows.len() {
                    out.set_current(index);
                    let ::std::option::Option::Some(row) = rows.get(index) else {
                        out.reject(index as u32, rows.null_reason(index));
                        continue;
                    };
                    #run
                }
                out.finish(&mut self.sizes, rows.len())
            };
            (Some(emits), process, Carry::Nothing)
        }
    };
    let carry = carry.unwrap_or(&default);
    if let (None, Carry::Nothing) = (writes, carry) {
        let span = options.carry.as_ref().map_or_else(Span::call_site, |(span, _)| *span);
        return Err(syn::Error::new(span, "a filter that carries nothing has no output"));
    }
    let keeps_origin = !matches!(carry, Carry::Nothing);
    let carry = carry.tokens();
    let writes = match writes {
        Some(writes) => quote!(<#writes as #guest::Row>::schema()),
        None => quote!(#guest::Schema::default()),
    };
    let open_config = open_config(options, &config);
    Ok(quote! {
        pub struct #operator {
            #[allow(dead_code)]
            config: #config,
            #[allow(dead_code)]
            sizes: #rt::Sizes,
            #[allow(dead_code)]
            keeps_origin: bool,
        }

        impl #guest::Transform for #operator {
            fn open(
                step: &#guest::Step,
                input: &#guest::Schema,
            ) -> ::std::result::Result<(#guest::TransformPlan, Self), #guest::Refusal> {
                let config = #open_config;
                let plan = #rt::plan::<#row>(input, #writes, #carry)?;
                let keeps_origin = #keeps_origin;
                ::std::result::Result::Ok((plan, Self { config, sizes: ::std::default::Default::default(), keeps_origin }))
            }

            #[allow(unused_variables, unused_mut)]
            fn process(
                &mut self,
                call: &#guest::Call,
                input: #guest::Batch<'_>,
            ) -> ::std::result::Result<#guest::Output, #guest::Failure> {
                #process
            }
        }
    })
}

/// Emits `value`, of these shapes from the outside in.
fn emit(shapes: &[Shape]) -> TokenStream {
    match shapes {
        [Shape::Many, inner @ ..] => {
            let inner = emit(inner);
            quote!(::std::iter::IntoIterator::into_iter(value).for_each(|value| { #inner });)
        }
        _ => quote!(out.emit(value);),
    }
}

fn reducer(options: &Options, function: &ItemFn, operator: &Ident) -> syn::Result<TokenStream> {
    let signature = Signature::parse(function, 2)?;
    if let Some((span, _)) = &options.carry {
        return Err(syn::Error::new(*span, "a reducer carries nothing: its rows go in and out whole"));
    }
    if let (Some(check), None) = (&options.check, &signature.config) {
        return Err(syn::Error::new_spanned(check, "there is no configuration to check"));
    }
    let one_row = matches!(&signature.result, Result::Rows(shapes, _) if matches!(shapes.as_slice(), [Shape::One]));
    if !one_row || signature.is_batch || signature.emits.is_some() {
        let text = "a reducer is `fn(Row, Row) -> Row`, or answers a `Result` of a row";
        return Err(syn::Error::new_spanned(&function.sig.ident, text));
    }
    let guest = quote!(::tidemill_guest);
    let rt = quote!(#guest::rt);
    let (row, config) = (&signature.row, signature.config());
    let combine = |name: TokenStream| {
        // The inverse is called as the reducer is.
        let marker = format_ident!("reducer_function");
        let call = signature.call(&marker, &["first", "second"]);
        let result = if signature.fallible {
            quote!(#call.map_err(|error| #guest::Failure::Fatal(::std::string::ToString::to_string(&error))))
        } else {
            quote!(::std::result::Result::Ok(#call))
        };
        quote!(|first: #row, second: #row| { use #name as #marker; #result })
    };
    let name = &function.sig.ident;
    let reduce = combine(quote!(#name));
    let (invertible, invert) = match &options.invert {
        None => (false, quote!()),
        Some(path) => {
            let subtract = combine(quote!(#path));
            let invert = quote! {
                fn invert(
                    &mut self,
                    call: &#guest::Call,
                    whole: #guest::Batch<'_>,
                    part: #guest::Batch<'_>,
                ) -> ::std::result::Result<#guest::OwnedBatch, #guest::Failure> {
                    #rt::invert::<#row>(whole, part, &self.order, #subtract)
                }
            };
            (true, invert)
        }
    };
    let open_config = open_config(options, &config);
    Ok(quote! {
        pub struct #operator {
            #[allow(dead_code)]
            config: #config,
            order: ::std::vec::Vec<usize>,
        }

        #[allow(unused_variables)]
        impl #guest::Reducer for #operator {
            fn open(
                step: &#guest::Step,
                values: &#guest::Schema,
            ) -> ::std::result::Result<(bool, Self), #guest::Refusal> {
                let config = #open_config;
                let order = #rt::open_reducer::<#row>(values)?;
                ::std::result::Result::Ok((#invertible, Self { config, order }))
            }

            fn reduce(
                &mut self,
                call: &#guest::Call,
                values: #guest::Batch<'_>,
                ends: &[u32],
            ) -> ::std::result::Result<#guest::OwnedBatch, #guest::Failure> {
                #rt::reduce::<#row>(values, ends, &self.order, #reduce)
            }

            #invert
        }
    })
}
