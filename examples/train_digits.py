"""Train on MNIST for two epochs and look at the figures."""

import lightcnn


def main():
    recipe = lightcnn.get_recipe("mnist", epochs=2)
    run = lightcnn.train(recipe, overwrite=True, run_dir="runs/example")
    print(f"accuracy on test: {run.metrics['test']['accuracy']:.2%}")
    print(f"open {run.report}")


if __name__ == "__main__":
    main()
