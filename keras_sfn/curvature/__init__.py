"""The Hessian: products, the public operator, what can be differentiated twice, the check."""
