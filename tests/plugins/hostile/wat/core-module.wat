;; A core module: WebAssembly, but not a component.
(module
  (memory (export "memory") 1)
  (func (export "process") (result i32) (i32.const 0)))
