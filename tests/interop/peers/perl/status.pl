# What the server knows of a job: known, running, numerator, denominator.
# perl status.pl SERVER HANDLE
use strict;
use warnings;
use Gearman::Client;

my ($server, $handle) = @ARGV;
my $status = Gearman::Client->new(job_servers => [$server])->get_status("$server//$handle");
my @progress = @{ $status->progress || [0, 0] };
print join(" ", map { $_ || 0 } $status->known, $status->running, @progress), "\n";
