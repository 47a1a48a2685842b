;; A component that wants the network.
(component
  (import "wasi:sockets/tcp-create-socket@0.2.0" (instance
    (export "network" (type (sub resource))))))
