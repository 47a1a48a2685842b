;; A component that wants a key-value store.
(component
  (import "wasi:keyvalue/store@0.2.0" (instance
    (export "bucket" (type (sub resource))))))
