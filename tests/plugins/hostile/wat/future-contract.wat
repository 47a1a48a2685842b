;; A component with a role of a contract that is not written yet.
(component
  (core module $m (func (export "f")))
  (core instance $i (instantiate $m))
  (func $f (canon lift (core func $i "f")))
  (instance $transform (export "process" (func $f)))
  (export "tidemill:operator/transform@9.0.0" (instance $transform)))
