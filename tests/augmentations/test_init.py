import pkgutil
from importlib import import_module
from inspect import getmembers, isabstract, isclass

import augmentations
from augmentations import Augmentation


def test_every_augmentation_of_the_package_is_registered_under_its_name():
    modules = [import_module(f"augmentations.{module.name}") for module in pkgutil.iter_modules(augmentations.__path__)]
    classes = {cls for module in modules for _, cls in getmembers(module, isclass) if issubclass(cls, Augmentation)}
    concrete = {cls.name: cls for cls in classes if not isabstract(cls)}
    assert dict(augmentations.AUGMENTATIONS) == concrete
    assert augmentations.names() == list(augmentations.AUGMENTATIONS)


def test_what_is_public_is_there():
    assert all(hasattr(augmentations, name) for name in augmentations.__all__)
