using Spectre.Console;

namespace Kernels.Cli;

/// <summary>Shows how far a job is: a bar on a terminal, a line now and then elsewhere.</summary>
internal static class SampleProgress
{
    private const int Lines = 10;

    /// <summary>Runs a job.</summary>
    /// <param name="console">Where to show it.</param>
    /// <param name="images">Images of the job.</param>
    /// <param name="steps">Steps of each.</param>
    /// <param name="job">The job; it calls back with the number of images after every step.</param>
    public static void Run(IAnsiConsole console, int images, int steps, Action<Action<int>> job)
    {
        long total = (long)images * steps;
        if (console.Profile.Capabilities.Interactive)
        {
            console.Progress()
                .Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn())
                .Start(context =>
                {
                    ProgressTask task = context.AddTask("sampling", maxValue: total);
                    job(count => task.Increment(count));
                });
            return;
        }

        long done = 0;
        job(count =>
        {
            long before = done * Lines / total;
            done += count;
            if (done * Lines / total > before)
            {
                console.WriteLine($"{done * 100 / total} %");
            }
        });
    }
}
