;; A component that wants something nobody has heard of.
(component
  (import "foo:bar/baz@1.0.0" (instance
    (export "steal" (func)))))
