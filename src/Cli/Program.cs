using Kernels.Cli;

return await KernelsCommand.RunAsync(args, CliConsole.Standard).ConfigureAwait(false);
