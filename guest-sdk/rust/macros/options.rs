//! The words in `#[operator(…)]`.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::{Ident, LitStr, Path, Token, bracketed};

/// What goes with a row's output.
pub(crate) enum Carry {
    Nothing,
    Everything,
    Only(Vec<LitStr>),
}

impl Carry {
    /// The value of `Carried`.
    pub(crate) fn tokens(&self) -> TokenStream {
        let carried = quote!(::tidemill_guest::Carried);
        match self {
            Carry::Nothing => quote!(#carried::Nothing),
            Carry::Everything => quote!(#carried::Everything),
            Carry::Only(names) => {
                quote!(#carried::Only(::std::vec![#(::std::string::String::from(#names)),*]))
            }
        }
    }
}

#[derive(Default)]
pub(crate) struct Options {
    pub(crate) carry: Option<(Span, Carry)>,
    pub(crate) check: Option<Path>,
    pub(crate) reducer: Option<Span>,
    pub(crate) invert: Option<Path>,
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        let mut options = Options::default();
        while !input.is_empty() {
            let name: Ident = input.parse()?;
            let repeated = match name.to_string().as_str() {
                "reducer" => options.reducer.replace(name.span()).is_some(),
                "carry" => {
                    input.parse::<Token![=]>()?;
                    options.carry.replace((name.span(), parse_carry(input)?)).is_some()
                }
                "check" => {
                    input.parse::<Token![=]>()?;
                    options.check.replace(input.parse()?).is_some()
                }
                "invert" => {
                    input.parse::<Token![=]>()?;
                    options.invert.replace(input.parse()?).is_some()
                }
                _ => {
                    let text = "unknown option: there are `carry`, `check`, `reducer` and `invert`";
                    return Err(syn::Error::new(name.span(), text));
                }
            };
            if repeated {
                return Err(syn::Error::new(name.span(), format!("`{name}` stands there twice")));
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        if let (Some(invert), None) = (&options.invert, options.reducer) {
            return Err(syn::Error::new_spanned(invert, "`invert` goes with `reducer`"));
        }
        Ok(options)
    }
}

fn parse_carry(input: ParseStream<'_>) -> syn::Result<Carry> {
    if input.peek(syn::token::Bracket) {
        let names;
        bracketed!(names in input);
        let names = Punctuated::<LitStr, Token![,]>::parse_terminated(&names)?;
        return Ok(Carry::Only(names.into_iter().collect()));
    }
    let word: LitStr = input.parse()?;
    match word.value().as_str() {
        "all" => Ok(Carry::Everything),
        "none" => Ok(Carry::Nothing),
        _ => Err(syn::Error::new_spanned(word, "`carry` is \"all\", \"none\" or a list of columns in brackets")),
    }
}
