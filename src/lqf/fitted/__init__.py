"""The fitted side of the estimator: reading data, preparing the network, holding the optimum."""
