"""minima_volume: how large are the minima of a neural network's loss?

Notebooks and scripts need only this namespace::

    import minima_volume as mv

    run = mv.open_run(".", stage="train")      # a run folder
    trained = mv.train_models(run)             # models_and_data/
    mv.sweep(run)                              # data_<landscape>/
    mv.estimate_volumes(run)                   # data_<landscape>/loss_<t>/
    mv.measure_masses(run)                     # Gaussian local volumes, there too

    mv.measure_volume(model, x, y, threshold=0.1, sigma=0.07)   # a model of your own
"""

import lazy_loader

__version__ = "0.1.0"

# the names are in __init__.pyi and are imported when they are first used, so that `minima-volume --help` is quick
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
